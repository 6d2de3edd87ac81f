"""The API's description, and the page at /docs that shows it without any other site's help."""

from __future__ import annotations

import base64
import importlib.util
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from serve.pixels import FORMATS, HEADERS, WINDOWS
from serve.schemas import MEANINGS, Schema, object_of, param_schema, ref, schemas
from serve.scoring import PROBE

JSON, TEXT, FILE = "application/json", "text/plain", "multipart/form-data"
BINARY: Schema = {"type": "string", "format": "binary"}
WHEN = {
    "400": "Not a scan request: another form, a wrong parameter, a broken upload.",
    "401": "No API key, or an unknown one.",
    "403": "Another web site's script, which is not allowed.",
    "408": "The body arrived too slowly.",
    "413": "A larger body, or more scans, than the limits.",
    "415": "Another content type or encoding.",
    "421": "A Host header with a name that is not this server's.",
    "422": "The file is no scan; `error_code` is the one of its row.",
    "500": "The model failed.",
    "501": "This model returns no pixels.",
    "503": "No place free, or not ready: try again after Retry-After seconds.",
    "504": "No answer in time.",
}
SCORING = ("400", "403", "408", "413", "415", "500", "503", "504")
ERRORS = {
    "/predict": SCORING,
    "/series": SCORING,
    "/pixels": (*SCORING, "422", "501"),
    "/invocations": SCORING,
    "/readyz": ("503",),
}
OPEN_PATHS = ("/ping", "/health", "/readyz")
ROW_ANSWERS = {"/predict": "Answer", "/series": "SeriesAnswer", "/invocations": "Rows",
               "/model": "Model"}  # fmt: skip
# Of CSV with one column: a header, then one scan a line, as base64 text; other text gets an error.
CSV_PATTERN = r'^image(\n[^",\r\n]+)*\n?$'
DOCS_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>API — chest CT</title>
<link rel="icon" href="static/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<noscript><p>The same as a file: <a href="openapi.json">openapi.json</a></p></noscript>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="static/docs.js"></script>
</body>
</html>
"""


def swagger_folder() -> Path:
    """Return the folder of Swagger UI's files, which the package fastapi-offline carries."""
    spec = importlib.util.find_spec("fastapi_offline")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(
            "fastapi-offline is missing: pip install -r requirements-serve.txt"
        )
    return Path(spec.origin).parent / "static"


def complete(app: FastAPI, about: dict[str, Any], keys_needed: bool) -> None:
    """Complete FastAPI's description of the API, and fix it.

    Args:
        app: the application, with all its routes.
        about: the answer of GET /model.
        keys_needed: whether requests need an API key.
    """
    document: dict[str, Any] = app.openapi()
    components = document.setdefault("components", {})
    components["schemas"] = schemas(about)
    components["headers"] = {
        "RequestId": {
            "description": "The request's id, as in the log.",
            "schema": {"type": "string"},
        }
    }
    for path, operations in document["paths"].items():
        for operation in operations.values():
            operation["responses"] = responses(path, keys_needed)
            operation |= requests(path, about)
    if keys_needed:
        components["securitySchemes"] = {
            "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            "bearer": {"type": "http", "scheme": "bearer"},
        }
        document["security"] = [{"key": []}, {"bearer": []}]
        for path in OPEN_PATHS:
            document["paths"][path]["get"]["security"] = []
    app.openapi = lambda: document  # type: ignore[method-assign]


def requests(path: str, about: dict[str, Any]) -> dict[str, Any]:
    """Return what a path takes.

    Args:
        path: of the API.
        about: the answer of GET /model.
    """
    if path == "/predict":
        files = {"type": "array", "items": BINARY, "minItems": 1}
        described = "Scans, or zips of scans; any number up to the server's limits."
        params = [
            in_query(name, param_schema(name, kind) | {"description": MEANINGS.get(name, "")})
            for name, kind in about["params"].items()
        ]
        return upload(files | {"description": described}) | {"parameters": params}
    if path == "/pixels":
        shape = {"type": "string", "enum": list(FORMATS), "default": "raw"}
        window = {"type": "string", "enum": list(WINDOWS), "default": "lung"}
        query = [in_query("format", shape), in_query("window", window)]
        return upload(BINARY | {"description": "One scan."}) | {"parameters": query}
    if path == "/series":
        return {
            "requestBody": {"required": True, "content": {JSON: {"schema": ref("SeriesRequest")}}}
        }
    if path == "/invocations":
        example = {"dataframe_records": [{"image": base64.b64encode(PROBE).decode()}]}
        content = {
            JSON: {"schema": ref("InvocationsRequest"), "example": example},
            "text/csv": {"schema": {"type": "string", "pattern": CSV_PATTERN}},
            "application/vnd.apache.parquet": {"schema": BINARY},
        }
        return {"requestBody": {"required": True, "content": content}}
    return {}


def in_query(name: str, schema: Schema) -> Schema:
    """Return a parameter in the query."""
    described = schema.pop("description", "")
    return {"name": name, "in": "query", "required": False, "schema": schema,
            "description": described}  # fmt: skip


def upload(files: Schema) -> dict[str, Any]:
    """Return a request body with the field `files`."""
    form = object_of({"files": files}, ("files",), closed=True)
    return {"requestBody": {"required": True, "content": {FILE: {"schema": form}}}}


def responses(path: str, keys_needed: bool) -> dict[str, Any]:
    """Return a path's answers by status.

    Args:
        path: of the API.
        keys_needed: whether requests need an API key.
    """
    headers = {"X-Request-ID": {"$ref": "#/components/headers/RequestId"}}
    good: Schema = {"description": "Fine.", "headers": headers, "content": good_content(path)}
    if path == "/pixels":
        plain = {"schema": {"type": "string"}}
        good["headers"] = headers | dict.fromkeys(HEADERS, plain)
    found: dict[str, Any] = {"200": good}
    statuses = {"421", *ERRORS.get(path, ())}
    if keys_needed and path not in OPEN_PATHS:
        statuses.add("401")
    for status in sorted(statuses):
        content = {JSON: {"schema": ref("Error")}}
        found[status] = {"description": WHEN[status], "headers": headers, "content": content}
    return found


def good_content(path: str) -> Schema:
    """Return the content of a path's answer when all is well."""
    if path in ROW_ANSWERS:
        return {JSON: {"schema": ref(ROW_ANSWERS[path])}}
    if path == "/pixels":
        return {kind: {"schema": BINARY} for kind in ("application/octet-stream", "image/png")}
    return {TEXT: {"schema": {"type": "string"}}}
