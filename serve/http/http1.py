"""uvicorn's HTTP/1.1 protocol with a time limit on headers.

uvicorn closes a connection that stays idle after an answer, but waits for ever for a first request
or for the rest of its headers.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

HEADERS_TIMEOUT_S = 10.0


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
