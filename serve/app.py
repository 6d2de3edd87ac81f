"""The whole server as one ASGI application."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from serve import openapi
from serve.http.access import KeyCheck, SameOrigin
from serve.http.errors import RefusalError, refusal_response, wants_html
from serve.http.headers import SecurityHeaders
from serve.http.limits import LimitedRequests
from serve.http.observe import Metrics, Observed
from serve.http.request_facts import current
from serve.invocations import ClearErrors
from serve.model_files import ModelFiles, about
from serve.page import results_page
from serve.predict import predict_files, query_params, uploaded_files
from serve.scoring import Scorer
from serve.settings import Limits, ServerSettings

STATIC = Path(__file__).parent / "static"
MLFLOW_PATHS = {"/ping", "/health", "/version", "/invocations"}
MLFLOW_TIMEOUT_VARIABLE = "MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT"


class Either:
    """ASGI application that gives MLflow's paths to MLflow's application and keeps the rest."""

    def __init__(self, scoring: ASGIApp, own: ASGIApp) -> None:
        self.scoring = scoring
        self.own = own

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request to the application it belongs to."""
        mlflows = scope["type"] == "http" and scope["path"] in MLFLOW_PATHS
        await (self.scoring if mlflows else self.own)(scope, receive, send)


def build_app(model: Any, files: ModelFiles, settings: ServerSettings) -> ASGIApp:
    """Return the server around a loaded pyfunc.

    Args:
        model: a `mlflow.pyfunc.PyFuncModel` that takes one column `image`.
        files: where it came from.
        settings: what the operator chose.
    """
    scorer = Scorer(model, settings.limits.max_rows)
    described = about(files, model.metadata) | {
        "max_body_bytes": settings.limits.max_body_bytes,
        "max_rows": settings.limits.max_rows,
    }
    metrics = Metrics()
    metrics.describe_model(described)
    scoring = mlflow_app(scorer, settings.limits)
    own = own_app(scorer, described, metrics, settings)
    document = openapi.describe(own, scoring, keys_needed=bool(settings.keys))
    own.openapi = lambda: document  # type: ignore[method-assign]

    app: ASGIApp = LimitedRequests(Either(ClearErrors(scoring), own), settings.limits)
    app = KeyCheck(app, list(settings.keys))
    app = SameOrigin(app, settings.allowed_origins)
    if settings.allowed_origins:
        app = CORSMiddleware(
            app,
            allow_origins=settings.allowed_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-API-Key"],
        )
    return Observed(SecurityHeaders(app), metrics)


def mlflow_app(scorer: Scorer, limits: Limits) -> FastAPI:
    """Return MLflow's own scoring application around the scorer."""
    from mlflow.pyfunc import scoring_server

    # MLflow's time-out answers without a sentence; the server's own must come first.
    os.environ[MLFLOW_TIMEOUT_VARIABLE] = str(math.ceil(limits.request_timeout_s) + 5)
    app: FastAPI = scoring_server.init(scorer)
    return app


def own_app(
    scorer: Scorer, described: dict[str, Any], metrics: Metrics, settings: ServerSettings
) -> FastAPI:
    """Return the application with the page, /predict, /model, /metrics and /docs."""
    app = FastAPI(
        title="chest-ct",
        description=f"Chest CT scans in, class probabilities out. {described['notice']}",
        version=str(described["version"] or "unregistered"),
        docs_url=None,
        redoc_url=None,
    )
    add_page(app)
    add_error_answers(app)

    @app.get("/model", summary="Tell which model answers, and its scores on the test split")
    async def model() -> Response:
        return JSONResponse(described)

    @app.get("/metrics", summary="Counts and times for Prometheus")
    def prometheus() -> Response:
        return metrics.answer()

    described_request = openapi.predict_request(scorer.declared_params())

    @app.post("/predict", summary="Score one or more files", openapi_extra=described_request)
    async def predict(request: Request) -> Response:
        limits = settings.limits
        params = query_params(request.query_params, scorer)
        uploads = await uploaded_files(request, limits.max_body_bytes, limits.max_rows)
        rows = await predict_files(uploads, params, scorer)
        if wants_html(request.scope):
            return HTMLResponse(results_page(rows, described))
        answer = {"predictions": rows, "notice": described["notice"]}
        answer["model"] = {key: described[key] for key in ("name", "version", "stage")}
        return Response(json.dumps(answer, allow_nan=False), media_type="application/json")

    return app


def add_page(app: FastAPI) -> None:
    """Add the page and the API's description for people."""
    app.mount("/static", StaticFiles(directory=STATIC))
    app.mount("/docs/", StaticFiles(directory=openapi.swagger_folder()))

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def page() -> Response:
        return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return HTMLResponse(openapi.DOCS_PAGE)


def add_error_answers(app: FastAPI) -> None:
    """Answer refusals, unknown paths and wrong methods with one sentence."""

    @app.exception_handler(RefusalError)
    async def refuse(request: Request, error: RefusalError) -> Response:
        current().error_kind = error.kind
        return refusal_response(request.scope, error)

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        if error.status_code == 405:
            message = "This path does not take that method: see /docs."
        else:
            message = "There is nothing at this path: see /docs."
        headers = dict(error.headers or {})
        refusal = RefusalError(error.status_code, "not_found", message, headers)
        return await refuse(request, refusal)
