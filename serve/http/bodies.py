"""Reading the bodies of requests: within a size, at a rate, and in bounded memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator

from starlette.types import Message, Receive, Scope, Send

from serve.http.errors import RefusalError, send_refusal
from serve.settings import Limits

# A body gets a grace period and one second more for each 5 kB that arrived (Apache's
# mod_reqtimeout works the same way): enough for a bad mobile connection, too little for one held
# open on purpose.
BODY_MIN_BYTES_PER_S = 5_000
LINGER_S = 2.0
LINGER_BYTES = 32 * 1024 * 1024


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


class Memory:
    """Counts the bytes of all bodies that the server holds, and refuses more than `most`."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.used = 0

    def take(self, size: int) -> None:
        """Count `size` more bytes; raise RefusalError (503) if that is too many."""
        if self.used + size > self.most:
            raise too_busy()
        self.used += size

    def give_back(self, size: int) -> None:
        """Count `size` bytes less."""
        self.used -= size


async def read_body(receive: Receive, limits: Limits, memory: Memory) -> bytes:
    """Return the whole body of a request; the caller gives its memory back.

    Raises:
        RefusalError: 413 as soon as the body is over the limit, 408 if it arrives too slowly,
            503 if the bodies held are too many bytes.
        ConnectionError: the client went away.
    """
    chunks: list[bytes] = []
    try:
        async for chunk in body_chunks(receive, limits):
            memory.take(len(chunk))
            chunks.append(chunk)
    except BaseException:
        memory.give_back(sum(map(len, chunks)))
        raise
    return b"".join(chunks)


async def body_chunks(receive: Receive, limits: Limits) -> AsyncGenerator[bytes, None]:
    """Yield a body as it arrives; raises as `read_body` does."""
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
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limits.max_body_bytes:
            raise body_too_large(limits.max_body_bytes)
        yield chunk
        if not message.get("more_body", False):
            return


async def drain(receive: Receive) -> None:
    """Throw away what a refused client still sends, for a while and up to a size.

    Closing a connection with unread bytes resets it, and the client would lose the answer that
    tells why.
    """
    try:
        async with asyncio.timeout(LINGER_S):
            discarded = 0
            while discarded < LINGER_BYTES:
                message = await receive()
                discarded += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return
    except TimeoutError:
        return


def replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that hands out a body that has been read, then the connection's own."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return waiting.pop() if waiting else await receive()

    return receive_again


async def refuse_unread(scope: Scope, receive: Receive, send: Send, refusal: RefusalError) -> None:
    """Answer a request whose body has not been read, drain some of it, and hang up."""
    refusal.headers.setdefault("Connection", "close")

    async def send_then_drain(message: Message) -> None:
        if message["type"] != "http.response.body":
            return await send(message)
        await send({**message, "more_body": True})
        await drain(receive)
        return await send({"type": "http.response.body", "body": b""})

    await send_refusal(scope, receive, send_then_drain, refusal)
