"""Bounds on what one client can take: bytes, rows, places, time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.errors import RefusalError, send_refusal
from serve.requests import Capacity, current

SCORING_PATHS = {"/invocations", "/predict"}
# A body gets 20 s and one second more for each 5 kB that arrived (Apache's mod_reqtimeout works
# the same way): enough for a bad mobile connection, too little for one held open on purpose.
BODY_GRACE_S = 20.0
BODY_MIN_BYTES_PER_S = 5_000
LINGER_S = 2.0


@dataclass(frozen=True)
class Limits:
    """The bounds of one server process.

    Args:
        max_body_bytes: largest request body.
        max_rows: most scans in one request.
        max_in_flight: most requests that are scored, or wait to be, at one time. Four times as
            many bodies may be arriving meanwhile, so slow senders do not take others' places.
        request_timeout_s: longest time from the whole body to the answer, in seconds.
        body_grace_s: time a body gets before its rate counts, in seconds.
    """

    max_body_bytes: int = 32 * 1024 * 1024
    max_rows: int = 256
    max_in_flight: int = 16
    request_timeout_s: float = 60.0
    body_grace_s: float = BODY_GRACE_S


def body_too_large(limit: int) -> RefusalError:
    """Return the refusal of a body over `limit` bytes."""
    return RefusalError(
        413,
        "body_too_large",
        f"Expected a request of at most {limit / 2**20:g} MiB and received a larger one: "
        "send fewer or smaller scans at a time.",
    )


def too_busy() -> RefusalError:
    """Return the refusal of a request for which there is no place."""
    return RefusalError(
        503,
        "busy",
        "The server is answering as many requests as it can: try again in a second.",
        {"Retry-After": "1"},
    )


async def read_body(receive: Receive, limits: Limits) -> bytes:
    """Return the whole body of a request.

    Raises:
        RefusalError: 413 as soon as the body is over the limit, 408 if it arrives too slowly.
        ConnectionError: the client went away.
    """
    chunks: list[bytes] = []
    size = 0
    started = time.monotonic()
    while True:
        deadline = started + limits.body_grace_s + size / BODY_MIN_BYTES_PER_S
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                message = await receive()
        except TimeoutError as error:
            raise RefusalError(
                408,
                "slow_client",
                f"The request's body arrived too slowly ({size} bytes in "
                f"{time.monotonic() - started:.0f} s): send it again on a better connection.",
            ) from error
        if message["type"] == "http.disconnect":
            raise ConnectionError("the client went away before its request was complete")
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > limits.max_body_bytes:
            raise body_too_large(limits.max_body_bytes)
        if not message.get("more_body", False):
            return b"".join(chunks)


async def drain(receive: Receive, limit: int) -> None:
    """Throw away what a refused client still sends, up to `limit` bytes and LINGER_S seconds.

    Closing a connection with unread bytes resets it, and the client would lose the answer that
    tells why.
    """
    discarded = 0
    try:
        async with asyncio.timeout(LINGER_S):
            while discarded < limit:
                message = await receive()
                discarded += len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
    except TimeoutError:
        return


class LimitedRequests:
    """ASGI middleware that reads bodies within limits and gives out the places in flight."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self.app = app
        self.limits = limits
        self.scoring = Capacity(limits.max_in_flight)
        self.arriving = Capacity(4 * limits.max_in_flight)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it with 408, 413, 503 or 504."""
        try:
            if scope["method"] in {"GET", "HEAD", "OPTIONS"}:
                return await self._answer(scope, receive, send)
            body = await self._body(scope, receive)
            await self._answer(scope, replay(body, receive), send)
        except ConnectionError:
            current().error_kind = "client_gone"
        except RefusalError as refusal:
            current().error_kind = refusal.kind
            refusal.headers.setdefault("Connection", "close")
            await send_refusal(scope, receive, lingering(send, receive, self.limits), refusal)
        return None

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        length = Headers(scope=scope).get("content-length", "0")
        if length.isdigit() and int(length) > self.limits.max_body_bytes:
            raise body_too_large(self.limits.max_body_bytes)
        place = None if self.scoring.full() else self.arriving.take()
        if place is None:
            raise too_busy()
        try:
            body = await read_body(receive, self.limits)
        finally:
            place.release()
        current().bytes_in = len(body)
        return body

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] not in SCORING_PATHS or scope["method"] != "POST":
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


def replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that hands out a body that has been read, then the connection's own."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return waiting.pop() if waiting else await receive()

    return receive_again


def lingering(send: Send, receive: Receive, limits: Limits) -> Send:
    """Return a `send` that drains the rest of the request before it ends the answer."""

    async def send_then_drain(message: Message) -> None:
        if message["type"] != "http.response.body":
            return await send(message)
        await send({**message, "more_body": True})
        await drain(receive, limits.max_body_bytes)
        return await send({"type": "http.response.body", "body": b""})

    return send_then_drain
