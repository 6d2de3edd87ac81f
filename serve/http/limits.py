"""Bounds on what clients can take: bytes in memory, places in flight, time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from serve.http.bodies import Memory, body_too_large, read_body, refuse_unread, replay, too_busy
from serve.http.errors import RefusalError, send_refusal
from serve.http.request_facts import Capacity, current
from serve.settings import Limits

SCORING_PATHS = {"/invocations", "/predict"}
BODIES_IN_MEMORY = 8  # of the largest size, all requests together


class LimitedRequests:
    """ASGI middleware that reads bodies within limits and gives out the places in flight."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self.app = app
        self.limits = limits
        self.scoring = Capacity(limits.max_in_flight)
        self.arriving = Capacity(4 * limits.max_in_flight)
        self.memory = Memory(BODIES_IN_MEMORY * limits.max_body_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it with 408, 413, 503 or 504."""
        if scope["method"] in {"GET", "HEAD", "OPTIONS"}:
            return await self.app(scope, receive, send)
        try:
            body = await self._body(scope, receive)
        except ConnectionError:
            current().error_kind = "client_gone"
            return None
        except RefusalError as refusal:
            current().error_kind = refusal.kind
            return await refuse_unread(scope, receive, send, refusal)
        try:
            return await self._answer(scope, replay(body, receive), send)
        except RefusalError as refusal:
            current().error_kind = refusal.kind
            return await send_refusal(scope, receive, send, refusal)
        finally:
            self.memory.give_back(len(body))

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        length = Headers(scope=scope).get("content-length", "0")
        if length.isdigit() and int(length) > self.limits.max_body_bytes:
            raise body_too_large(self.limits.max_body_bytes)
        place = None if self.scoring.full() else self.arriving.take()
        if place is None:
            raise too_busy()
        try:
            body = await read_body(receive, self.limits, self.memory)
        finally:
            place.release()
        current().bytes_in = len(body)
        return body

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] not in SCORING_PATHS:
            return await self.app(scope, receive, send)
        slot = self.scoring.take()
        if slot is None:
            raise too_busy()
        current().slot = slot
        try:
            return await self._in_time(self.app(scope, receive, send))
        finally:
            slot.release()

    async def _in_time(self, answer: Awaitable[None]) -> None:
        try:
            async with asyncio.timeout(self.limits.request_timeout_s):
                await answer
        except TimeoutError as error:
            raise RefusalError(
                504,
                "timeout",
                f"No answer within {self.limits.request_timeout_s:g} s: send fewer scans at a "
                "time, or try again when the server is less busy.",
            ) from error
