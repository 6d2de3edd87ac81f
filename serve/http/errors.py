"""Refusals: what a client is told when a request cannot be answered.

Every error body has MLflow's shape, `{"error_code": …, "message": …}`, so that MLflow's own
clients read it. The message is one sentence and never a stack trace, a path or the data sent.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Literal

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serve.http.html import html_page

ERROR_CODES = {
    400: "BAD_REQUEST",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "RESOURCE_DOES_NOT_EXIST",
    405: "BAD_REQUEST",
    408: "DEADLINE_EXCEEDED",
    413: "REQUEST_LIMIT_EXCEEDED",
    415: "BAD_REQUEST",
    421: "BAD_REQUEST",
    422: "BAD_REQUEST",
    499: "CANCELLED",
    501: "NOT_IMPLEMENTED",
    503: "TEMPORARILY_UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
# What `chest_ct_errors_total` counts and the log writes; docs/runbook.md says what to do.
Kind = Literal[
    "bad_request",
    "body_too_large",
    "busy",
    "client_gone",
    "cross_origin",
    "internal",
    "model_failed",
    "not_found",
    "not_http",
    "not_ready",
    "not_supported",
    "slow_client",
    "timeout",
    "too_many_rows",
    "unauthorized",
    "unknown_host",
    "unreadable_scan",
]
UNTELLABLE = re.compile(r"[/\\\n\r]|\S{60}")  # a path, several lines, or a run of encoded data


@dataclass
class RefusalError(Exception):
    """A request that ends here, with the answer the client gets.

    Args:
        status: HTTP status.
        kind: short name counted in the `chest_ct_errors_total` metric and written in the log.
        message: one sentence for the client: what was expected, what came, what to do.
        headers: extra response headers.
        code: the body's `error_code`; None takes that of the status.
    """

    status: int
    kind: Kind
    message: str
    headers: dict[str, str] = field(default_factory=dict)
    code: str | None = None

    def json_body(self) -> bytes:
        """Return the body in MLflow's error shape, as UTF-8 JSON."""
        code = self.code or ERROR_CODES.get(self.status, "INTERNAL_ERROR")
        return json.dumps({"error_code": code, "message": self.message}).encode()


def tellable(message: str) -> str | None:
    """Return a model's own message if it is a sentence for clients, else None.

    It is if it says what was expected, as this project's errors do, in one short line without a
    slash (a path) and without a long unbroken run of characters (base64 of somebody's scan).
    """
    text = message.strip()
    fits = text.startswith("Expected ") and len(text) <= 300 and not UNTELLABLE.search(text)
    return text if fits else None


def internal() -> RefusalError:
    """Return the refusal for an exception that nothing else has caught."""
    return RefusalError(500, "internal", "The server failed; its log says where.")


def wants_html(scope: Scope) -> bool:
    """Return whether a browser, rather than a program, waits for the answer."""
    return "text/html" in Headers(scope=scope).get("accept", "").lower()


def refusal_response(scope: Scope, refusal: RefusalError) -> Response:
    """Return a refusal as a response: HTML for a browser that navigates, JSON for a program."""
    if not wants_html(scope):
        body = refusal.json_body()
        return Response(body, refusal.status, refusal.headers, media_type="application/json")
    page = html_page("refusal.html.j2", status=refusal.status, message=refusal.message)
    return Response(page, refusal.status, refusal.headers, media_type="text/html")


async def send_refusal(scope: Scope, receive: Receive, send: Send, refusal: RefusalError) -> None:
    """Answer a request with a refusal."""
    await refusal_response(scope, refusal)(scope, receive, send)
