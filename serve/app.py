"""The whole server as one ASGI application."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import (
    FileResponse,
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    Response,
)
from fastapi.staticfiles import StaticFiles
from mlflow.version import VERSION as MLFLOW_VERSION
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from serve import openapi
from serve.http.access import HostCheck, KeyCheck, SameOrigin
from serve.http.errors import RefusalError, internal, refusal_response, wants_html
from serve.http.framing import Framing
from serve.http.headers import SecurityHeaders
from serve.http.limits import LimitedRequests
from serve.http.metrics import Metrics
from serve.http.observe import REQUEST_ID, Observed
from serve.http.request_facts import current
from serve.invocations import invocations_answer
from serve.model_files import ModelFiles, about
from serve.page import results_page
from serve.pixels import HEADERS, pixels_answer
from serve.predict import json_answer, predict_answer
from serve.scoring import ServedModel
from serve.series_request import series_answer
from serve.settings import ServerSettings

logger = logging.getLogger("serve")
STATIC = Path(__file__).parent / "static"
JSON = "application/json"


def build_app(model: Any, files: ModelFiles, settings: ServerSettings) -> ASGIApp:
    """Return the server around a loaded pyfunc.

    Args:
        model: a `mlflow.pyfunc.PyFuncModel` that takes one column `image`.
        files: where it came from.
        settings: what the operator chose.
    """
    limits, served = settings.limits, ServedModel(model, settings.limits)
    described = about(files, model.metadata) | {
        "max_body_bytes": limits.max_body_bytes,
        "max_rows": limits.max_rows,
        "max_slices": limits.max_slices,
        "max_series_bytes": limits.max_series_bytes,
        "max_series_rows": limits.max_series_rows,
        "answers_series": served.answers_series,
        "returns_pixels": served.returns_pixels,
        "healthy_classes": served.healthy,
    }
    log_model(described)
    metrics = Metrics()
    metrics.describe_model(described)
    routes = application(served, described, metrics, bool(settings.keys))
    return Observed(SecurityHeaders(guarded(routes, settings)), metrics)


def log_model(described: dict[str, Any]) -> None:
    """Write which model is served."""
    parts = [f"{key}={described[key]}" for key in ("name", "version", "stage") if described[key]]
    parts.append(f"model_digest={described['model_digest'] or 'unknown'}")
    logger.info("Serving %s", " ".join(parts))


def guarded(app: ASGIApp, settings: ServerSettings) -> ASGIApp:
    """Return an application behind everything that may refuse a request; the last is asked first.

    Args:
        app: what answers.
        settings: what the operator chose.
    """
    app = LimitedRequests(app, settings.limits, len(settings.keys))
    app = KeyCheck(app, list(settings.keys))
    app = SameOrigin(app, settings.allowed_origins)
    if settings.allowed_origins:
        app = CORSMiddleware(
            app,
            allow_origins=settings.allowed_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-API-Key", REQUEST_ID],
            expose_headers=[*HEADERS, REQUEST_ID],
        )
    app = HostCheck(app, settings.host, settings.allowed_hosts, keyed=bool(settings.keys))
    return Framing(app, settings.limits)


def application(
    model: ServedModel, described: dict[str, Any], metrics: Metrics, keys_needed: bool
) -> FastAPI:
    """Return the application with every route.

    Args:
        model: what scores.
        described: the answer of GET /model.
        metrics: what GET /metrics shows.
        keys_needed: whether requests need an API key, which the API's description says.
    """
    app = FastAPI(
        title="chest-ct",
        description=f"Chest CT scans in, class probabilities out. {described['notice']}",
        version=str(described["version"] or "unregistered"),
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
    )
    add_page(app)
    add_health(app, model)
    add_scoring(app, model, described)
    add_error_answers(app)

    @app.get("/model", summary="Tell which model answers, and its scores", tags=["model"])
    async def get_model() -> Response:
        return JSONResponse(described)

    @app.get("/metrics", summary="Counts and times for Prometheus", tags=["operation"])
    def get_metrics() -> Response:
        return metrics.answer()

    openapi.complete(app, described, keys_needed)
    return app


def add_scoring(app: FastAPI, model: ServedModel, described: dict[str, Any]) -> None:
    """Add the routes that take scans, or rows of scans."""

    @app.post("/predict", summary="Score files, zips and whole series", tags=["scoring"])
    async def predict(request: Request) -> Response:
        if wants_html(request.scope):
            page = await predict_answer(request, model, lambda a: results_page(a, described))
            return HTMLResponse(page)
        content = await predict_answer(request, model, lambda a: json_answer(a, described))
        return Response(content, media_type=JSON)

    @app.post("/series", summary="Answer series from rows of /predict", tags=["scoring"])
    async def answer_series(request: Request) -> Response:
        body, kind = await request.body(), request.headers.get("content-type", "")
        content = await asyncio.to_thread(series_answer, body, kind, model)
        return Response(content, media_type=JSON)

    @app.post("/pixels", summary="Return the pixels that a scan is scored from", tags=["scoring"])
    async def get_pixels(request: Request) -> Response:
        return await pixels_answer(request, model)

    @app.post(
        "/invocations",
        summary="Score scans sent as base64 text, in MLflow's formats",
        tags=["scoring"],
    )
    async def invocations(request: Request) -> Response:
        body, kind = await request.body(), request.headers.get("content-type")
        text = await asyncio.to_thread(invocations_answer, body, kind, model)
        return Response(text, media_type=JSON)


def add_health(app: FastAPI, model: ServedModel) -> None:
    """Add what monitors ask: MLflow's routes with MLflow's answers, and readiness."""

    @app.get("/ping", summary="Tell whether the server answers", tags=["operation"])
    async def ping() -> Response:
        return PlainTextResponse("\n")

    @app.get("/health", summary="The same as /ping", tags=["operation"])
    async def health() -> Response:
        return PlainTextResponse("\n")

    @app.get("/readyz", summary="Tell whether the model answers", tags=["operation"])
    async def ready() -> Response:
        await asyncio.to_thread(model.check_ready)
        return PlainTextResponse("ready\n")

    @app.get("/version", summary="Tell MLflow's version", tags=["operation"])
    async def get_version() -> Response:
        return PlainTextResponse(MLFLOW_VERSION)


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
    """Answer refusals, unknown paths, wrong methods and what failed with one sentence."""

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:  # Observed notes it as well
        return refusal_response(request.scope, internal())

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
