"""uvicorn's HTTP/1.1 protocol with a time limit on headers and the server's own form of errors.

uvicorn closes a connection that stays idle after an answer, but waits for ever for a first request
or for the rest of its headers; and it answers a request that is not HTTP with a line of plain text.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from serve.http.errors import RefusalError
from serve.http.headers import SECURITY_HEADERS

logger = logging.getLogger("serve")
HEADERS_TIMEOUT_S = 10.0
NOT_HTTP = RefusalError(
    400,
    "not_http",
    "Expected an HTTP/1.1 request; received something else, such as a header that is not allowed "
    "or a body that is not as long as its headers say.",
)


class TimedHeadersProtocol(H11Protocol):
    """Closes a connection whose request line and headers are not there in time."""

    headers_timeout_s = HEADERS_TIMEOUT_S

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._headers_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock with the connection."""
        super().connection_made(transport)
        self._start_clock()

    def data_received(self, data: bytes) -> None:
        """Stop the clock while a request is answered; start it when headers begin to arrive."""
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            if self._headers_timer is None:
                self._start_clock()
        else:
            self._stop_clock()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP in the form of every other error, and hang up.

        Where an answer is under way already, its connection is only cut.
        """
        facts = {"route": "not HTTP", "status": 400, "error": NOT_HTTP.kind}
        logger.info("not HTTP status=400 error=%s", NOT_HTTP.kind, extra={"facts": facts})
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.abort()
            return
        headers = {
            **SECURITY_HEADERS,
            "Content-Type": "application/json",
            "Connection": "close",
        }
        body = NOT_HTTP.json_body()
        headers["Content-Length"] = str(len(body))
        response = h11.Response(status_code=400, headers=list(headers.items()), reason=b"")
        for event in (response, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def on_response_complete(self) -> None:
        """Leave the connection to uvicorn's keep-alive limit until more data arrives."""
        self._stop_clock()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock with the connection."""
        self._stop_clock()
        super().connection_lost(exc)

    def _start_clock(self) -> None:
        self._headers_timer = self.loop.call_later(self.headers_timeout_s, self._give_up)

    def _stop_clock(self) -> None:
        if self._headers_timer is not None:
            self._headers_timer.cancel()
            self._headers_timer = None

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.abort()
