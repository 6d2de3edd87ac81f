# The page and the scoring API, with the trained model inside:
#
#   docker build -t chest-cancer-app .                                     artifacts/training/model
#   docker build -t chest-cancer-app --build-arg MODEL=artifacts/x/model . another model folder
#   docker build -t chest-cancer-app --build-arg MODEL= .                  no model: MODEL_URI at start
#
# Published images pin the base to a digest as well (PYTHON_IMAGE in .github/workflows/deploy.yml).
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

# A stage of its own, so that the packages below are installed again only when their names change.
FROM scratch AS model
ARG MODEL=artifacts/training/model
COPY ${MODEL:-deploy/no-model} /model

FROM ${PYTHON_IMAGE} AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv --without-pip /opt/venv
COPY requirements-serve.txt deploy/slim-venv.sh /build/
COPY --from=model /model/requirements.txt /build/requirements-model.txt
# mlflow-skinny is the same code as mlflow without the tracking server's dependencies (ADR 0030).
RUN sed -i -E 's/^mlflow([^-_[:alnum:]].*)?$/mlflow-skinny\1/' /build/requirements-*.txt \
    && pip --python /opt/venv/bin/python install --no-compile \
        -r /build/requirements-serve.txt \
        -r /build/requirements-model.txt \
    && bash /build/slim-venv.sh /opt/venv
ENV PYTHONPYCACHEPREFIX=/opt/pycache
COPY deploy/write_byte_code.py /build/
RUN /opt/venv/bin/python /build/write_byte_code.py
COPY serve /app/serve
COPY logs /app/logs
COPY --from=model /model /opt/model
# Evaluation's scores of the pipeline's model, for the page and GET /model. The pattern also matches
# where there are none; another MODEL brings its own scores.json in its folder, or has none.
ARG MODEL=artifacts/training/model
COPY deploy/no-model/requirements.txt scores.jso[n] /build/scores/
RUN if [ "${MODEL%/}" = artifacts/training/model ] && [ -f /build/scores/scores.json ]; then \
        cp /build/scores/scores.json /opt/model/scores.json; fi
RUN python -m compileall -q /app /opt/model \
    && chmod -R a+rX /app /opt/model /opt/pycache /opt/venv

FROM ${PYTHON_IMAGE}
ARG PYTHON_IMAGE
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="chest-cancer-app" \
      org.opencontainers.image.description="Chest CT classification: page and scoring API. Research software, not a medical device." \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}"
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPYCACHEPREFIX=/opt/pycache \
    HOME=/tmp \
    GIT_PYTHON_REFRESH=quiet \
    MLFLOW_DISABLE_TELEMETRY=true
COPY --from=build /opt/venv /opt/venv
COPY --from=build /opt/pycache /opt/pycache
COPY --from=build /app /app
COPY --from=build /opt/model /opt/model
COPY --chmod=755 deploy/entrypoint.sh /usr/local/bin/chest-ct-serve
WORKDIR /app
# A number, so that Kubernetes' runAsNonRoot can check it.
USER 10001:10001
EXPOSE 5000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:5000/readyz', timeout=4)"]
ENTRYPOINT ["chest-ct-serve"]
