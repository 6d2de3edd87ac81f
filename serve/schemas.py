"""What the API's answers look like, as JSON schemas for its description."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Schema = dict[str, Any]
WHEN = {
    "400": "Not a scan request: another form, a wrong parameter, a broken upload.",
    "401": "No API key, or an unknown one.",
    "403": "Another web site's script, which is not allowed.",
    "405": "The path takes another method.",
    "408": "The body arrived too slowly.",
    "413": "A larger body, or more scans, than the limits.",
    "415": "Another content type or encoding.",
    "421": "A Host header with a name that is not this server's.",
    "500": "The model failed.",
    "503": "No place free: try again after Retry-After seconds.",
    "504": "No answer in time.",
}
EVERYWHERE = ("421",)
SCORING = ("400", "403", "408", "413", "415", "500", "503", "504")
OPEN_PATHS = ("/ping", "/health")
TEXT_TYPES = {"/metrics": "text/plain"}


def nullable(kind: str, description: str) -> Schema:
    """Return the schema of a value that may be missing."""
    return {"type": [kind, "null"], "description": description}


def row_schema(classes: Sequence[str], params: dict[str, str]) -> Schema:
    """Return the schema of one scan's row.

    Args:
        classes: the model's classes.
        params: the model's parameters; `explain` adds the column `heatmap`.
    """
    properties: Schema = {
        "label": nullable("string", "The class that the scan is called."),
        "probability": nullable("number", "The probability of that class."),
    }
    for name in classes:
        properties[f"p_{name}"] = nullable("number", f"The probability of {name}.")
    properties |= {
        "error": nullable("string", "Why this scan was not scored; the other columns are null."),
        "out_of_domain": nullable("boolean", "Unlike the scans that the model was trained on."),
        "undecided": nullable("boolean", "Not one class at the model's stated error rate."),
        "error_code": nullable("string", "One stable word for the reason in `error`."),
    }
    if "explain" in params:
        properties["heatmap"] = nullable("string", "With `explain`: base64 of a PNG.")
    return {"type": "object", "properties": properties, "required": ["label", "error"]}


def schemas(classes: Sequence[str], params: dict[str, str]) -> Schema:
    """Return the schemas that the description's paths refer to, by name."""
    text, texts = {"type": "string"}, {"type": "array", "items": {"type": "string"}}
    file = {"file": {"type": "string", "description": "Name of the file, as it was sent."}}
    names = ("name", "version", "stage")
    return {
        "Row": row_schema(classes, params),
        "FileRow": {"allOf": [ref("Row"), {"type": "object", "properties": file}]},
        "Rows": {
            "type": "object",
            "properties": {"predictions": {"type": "array", "items": ref("Row")}},
            "required": ["predictions"],
        },
        "FileRows": {
            "type": "object",
            "properties": {
                "predictions": {"type": "array", "items": ref("FileRow")},
                "series": {"type": "array", "items": {"type": "object"}},
                "left_out": {"type": "array", "items": {"type": "object"}},
                "notice": text,
                "model": {
                    "type": "object",
                    "properties": {name: {"type": ["string", "null"]} for name in names},
                },
            },
            "required": ["predictions", "notice", "model"],
        },
        "Model": {
            "type": "object",
            "properties": {
                **{name: {"type": ["string", "null"]} for name in names},
                "aliases": texts,
                "classes": {"type": ["array", "null"], "items": text},
                "threshold": nullable("number", "Least probability of disease called diseased."),
                "model_digest": nullable("string", "SHA-256 over the files that decide an answer."),
                "params": {"type": "object", "additionalProperties": text},
                "scores": nullable("object", "On the test split, with 95 % intervals."),
                "external": {"type": "object", "description": "Scores on sets from elsewhere."},
                "card": nullable("string", "The model card, as Markdown."),
                "notice": text,
                "max_body_bytes": {"type": "integer"},
                "max_rows": {"type": "integer"},
            },
            "required": ["classes", "params", "notice", "max_body_bytes", "max_rows"],
        },
        "Error": {
            "type": "object",
            "properties": {"error_code": text, "message": text},
            "required": ["error_code", "message"],
        },
    }


def ref(name: str) -> Schema:
    """Return a reference to a schema."""
    return {"$ref": f"#/components/schemas/{name}"}


def responses(path: str, good: str | None, keys_needed: bool) -> dict[str, Any]:
    """Return a path's answers by status.

    Args:
        path: of the API.
        good: name of the schema of its answer, or None for a few words of text.
        keys_needed: whether requests need an API key.
    """
    schema = {"type": "string"} if good is None else ref(good)
    kind = TEXT_TYPES.get(path, "application/json")
    found: dict[str, Any] = {"200": {"description": "Fine.", "content": {kind: {"schema": schema}}}}
    statuses = EVERYWHERE + (SCORING if good in ("Rows", "FileRows") else ())
    if keys_needed and path not in OPEN_PATHS:
        statuses += ("401",)
    for status in sorted(statuses):
        content = {"application/json": {"schema": ref("Error")}}
        found[status] = {"description": WHEN[status], "content": content}
    return found
