"""One clear sentence in place of MLflow's error answers from /invocations.

MLflow answers a bad request with a stack trace or with the data it was sent. Good answers pass
through unchanged, byte for byte; in place of a bad one, the request itself is looked at again and
the first thing wrong with it is told.
"""

from __future__ import annotations

import json
import re

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.http.errors import RefusalError, send_refusal
from serve.http.request_facts import current

CONTENT_TYPES = ("application/json", "text/csv", "application/vnd.apache.parquet")
JSON_FIELDS = {"dataframe_split", "dataframe_records", "inputs", "instances"}
EXAMPLE = '{"dataframe_records": [{"image": "<base64 of a scan>"}]}'


def named(names: list[str]) -> str:
    """Return names a client wrote, for a sentence; what is no plain name is only counted."""
    plain = [name for name in names if re.fullmatch(r"[A-Za-z_][\w .-]{0,39}", name)]
    parts = [f"'{name}'" for name in plain[:5]]
    if others := len(names) - len(parts):
        parts.append(f"{others} other{'s' * (others > 1)}" if parts else f"{others} unnamed")
    return " and ".join(parts) or "none"


def json_fault(body: bytes) -> str:
    """Return what is wrong with a JSON body, in one sentence."""
    expected = f"Expected JSON such as {EXAMPLE}"
    try:
        request = json.loads(body)
    except UnicodeDecodeError:
        return f"{expected}; received bytes that are not UTF-8."
    except json.JSONDecodeError as error:
        return f"{expected}; not JSON at line {error.lineno}, column {error.colno}."
    except RecursionError:
        return f"{expected}; received JSON nested too deeply."
    if not isinstance(request, dict):
        return f"{expected}; received a JSON {type(request).__name__}, not an object."
    fields = [name for name in request if name != "params"]
    if len(JSON_FIELDS & set(fields)) != 1:
        choices = ", ".join(sorted(JSON_FIELDS))
        return f"Expected exactly one of the fields {choices}; received {named(fields)}."
    columns = current().columns
    if columns and columns != ["image"]:
        return f"Expected one column 'image'; received {named(columns)}."
    if request.get("params") is not None and not isinstance(request["params"], dict):
        return "Expected 'params' to be a JSON object; leave it out if there are none."
    return (
        f"{expected}: one column 'image', each value base64 text of a whole file, and params "
        "of the types GET /model lists; the values received do not fit."
    )


def fault(body: bytes, content_type: str | None) -> RefusalError:
    """Return the refusal that tells what is wrong with an /invocations request."""
    kind, *parameters = [part.strip() for part in (content_type or "").lower().split(";")]
    choices = ", ".join(CONTENT_TYPES)
    if kind not in CONTENT_TYPES:
        received = "none" if not kind else "another"
        return RefusalError(
            415, "bad_request", f"Expected one of the content types {choices}; received {received}."
        )
    if any(p.replace('"', "") != "charset=utf-8" for p in parameters if p):
        message = f"Expected the content type {kind}, if anything with charset=utf-8."
        return RefusalError(415, "bad_request", message)
    if kind == "application/json":
        return RefusalError(400, "bad_request", json_fault(body))
    form = "CSV with a header line" if kind == "text/csv" else "a Parquet file"
    columns = current().columns
    received = f"received the columns {named(columns)}" if columns else "this could not be read"
    message = f"Expected {form} and one column 'image' of base64 text; {received}."
    return RefusalError(400, "bad_request", message)


class ClearErrors:
    """ASGI middleware around MLflow's scoring application."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass good answers of /invocations through; replace the others."""
        if scope["type"] != "http" or scope["path"] != "/invocations":
            return await self.app(scope, receive, send)
        body = b""
        refused = False

        async def receive_and_keep() -> Message:
            nonlocal body
            message = await receive()
            body += message.get("body", b"")
            return message

        async def send_if_good(message: Message) -> None:
            nonlocal refused
            if message["type"] == "http.response.start":
                refused = message["status"] >= 400
            if not refused:
                await send(message)

        raised: Exception | None = None
        try:
            await self.app(scope, receive_and_keep, send_if_good)
        except Exception as error:  # MLflow's application raises on some headers it cannot read
            refused, raised = True, error
        if not refused:
            return None
        refusal = current().refusal
        if scope["method"] != "POST":
            refusal = RefusalError(405, "bad_request", "Expected POST.", {"Allow": "POST"})
        if refusal is None:
            refusal = fault(body, Headers(scope=scope).get("content-type"))
        current().error_kind = refusal.kind
        if raised is not None and current().failure is None:
            current().failure = type(raised).__name__
        return await send_refusal(scope, receive, send, refusal)
