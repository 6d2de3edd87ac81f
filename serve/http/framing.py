"""Requests that are refused from their headers alone."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from serve.http.bodies import body_too_large, refuse_unread
from serve.http.errors import RefusalError
from serve.http.request_facts import current
from serve.http.request_limits import RequestLimits


class Framing:
    """ASGI middleware: refuses a body whose length is declared twice, or is over the limit."""

    def __init__(self, app: ASGIApp, limits: RequestLimits) -> None:
        self.app = app
        self.limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 400 or 413."""
        headers = Headers(scope=scope)
        length = headers.get("content-length")
        most = self.limits.body_bytes(scope["path"])
        refusal: RefusalError | None = None
        if length is not None and "transfer-encoding" in headers:
            # Two servers in a row could see two different requests in it (RFC 9112, 6.1).
            message = "Expected Content-Length or Transfer-Encoding; received both: send one."
            refusal = RefusalError(400, "bad_request", message)
        elif length is not None and int(length) > most:  # h11 takes digits only
            refusal = body_too_large(most)
        if refusal is None:
            return await self.app(scope, receive, send)
        current().error_kind = refusal.kind
        return await refuse_unread(scope, receive, send, refusal)
