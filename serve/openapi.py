"""The API's description, and the page at /docs that shows it without any other site's help."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from serve.schemas import OPEN_PATHS, responses, schemas

SCAN_ROWS = {"dataframe_records": [{"image": "<base64 of a PNG, JPEG, TIFF, … file>"}]}
FILES_SCHEMA = {
    "type": "object",
    "properties": {"files": {"type": "array", "items": {"type": "string", "format": "binary"}}},
    "required": ["files"],
}
ANSWERS = {
    "/predict": "FileRows", "/invocations": "Rows", "/model": "Model",
    "/ping": None, "/health": None, "/version": None, "/metrics": None,
}  # fmt: skip
JSON_TYPES = {"boolean": "boolean", "double": "number", "float": "number", "long": "integer",
              "integer": "integer"}  # fmt: skip
INVOCATIONS_REQUEST = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"type": "object"}, "example": SCAN_ROWS},
            "text/csv": {"schema": {"type": "string"}},
            "application/vnd.apache.parquet": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
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


def predict_request(params: dict[str, str]) -> dict[str, Any]:
    """Return what POST /predict takes, in OpenAPI's words.

    Args:
        params: the model's parameters and MLflow's names of their types.
    """
    content = {"multipart/form-data": {"schema": FILES_SCHEMA}}
    query = [
        {"name": name, "in": "query", "schema": {"type": JSON_TYPES.get(kind, "string")}}
        for name, kind in params.items()
    ]
    return {"requestBody": {"required": True, "content": content}, "parameters": query}


def complete(app: FastAPI, described: dict[str, Any], keys_needed: bool) -> None:
    """Complete FastAPI's description of the API, and fix it.

    Args:
        app: the application, with all its routes.
        described: the answer of GET /model.
        keys_needed: whether requests need an API key.
    """
    document: dict[str, Any] = app.openapi()
    components = document.setdefault("components", {})
    components["schemas"] = schemas(described["classes"] or [], described["params"])
    for path, good in ANSWERS.items():
        for operation in document["paths"][path].values():
            operation["responses"] = responses(path, good, keys_needed)
    if keys_needed:
        components["securitySchemes"] = {
            "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            "bearer": {"type": "http", "scheme": "bearer"},
        }
        document["security"] = [{"key": []}, {"bearer": []}]
        for path in OPEN_PATHS:
            document["paths"][path]["get"]["security"] = []
    app.openapi = lambda: document  # type: ignore[method-assign]
