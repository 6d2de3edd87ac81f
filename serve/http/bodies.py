"""Reading the bodies of requests: within a size, at a rate, and in bounded memory."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import AsyncGenerator

from starlette.types import Message, Receive, Scope, Send

from serve.http.errors import RefusalError, send_refusal
from serve.http.places import Pool, Shares

# A body gets a grace period and one second more for each 5 kB that arrived (Apache's
# mod_reqtimeout works the same way): enough for a bad mobile connection, too little for one held
# open on purpose.
BODY_MIN_BYTES_PER_S = 5_000
# What a refused client may still send, and is thrown away, so that it reads why it was refused.
REST_BYTES = 64 * 1024 * 1024
REST_S = 30.0
REST_PAUSE_S = 3.0
GZIP = 16 + zlib.MAX_WBITS


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


async def read_body(
    receive: Receive, most: int, grace_s: float, memory: Pool, shares: Shares | None = None
) -> list[bytes]:
    """Return the whole body of a request in pieces; the caller gives its memory back.

    The pieces are not joined: a whole series would be in memory twice.

    Args:
        receive: of the request.
        most: largest body, in bytes.
        grace_s: time before the body's rate counts, in seconds.
        memory: what all bodies share.
        shares: whom the memory counts for.

    Raises:
        RefusalError: 413 as soon as the body is over the limit, 408 if it arrives too slowly,
            503 if the bodies held are too many bytes.
        ConnectionError: the client went away.
    """
    shares = shares or {}
    chunks: list[bytes] = []
    try:
        async for chunk in body_chunks(receive, most, grace_s):
            if not memory.take(len(chunk), shares):
                raise too_busy()
            chunks.append(chunk)
    except BaseException:
        memory.give_back(sum(map(len, chunks)), shares)
        raise
    return chunks


async def body_chunks(receive: Receive, most: int, grace_s: float) -> AsyncGenerator[bytes, None]:
    """Yield a body as it arrives; raises as `read_body` does."""
    size = 0
    started = time.monotonic()
    while True:
        deadline = started + grace_s + size / BODY_MIN_BYTES_PER_S
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
        if size > most:
            raise body_too_large(most)
        yield chunk
        if not message.get("more_body", False):
            return


def unpacked(body: bytes, encoding: str, most: int) -> bytes:
    """Return a body without its `Content-Encoding`.

    Args:
        body: what was sent.
        encoding: the header's value; `gzip` and `identity` are known.
        most: most bytes of the result.

    Raises:
        RefusalError: 415 for another encoding, 413 if the result is too large, 400 if the body is
            not what the header says.
    """
    name = encoding.strip().lower()
    if name in {"", "identity"}:
        return body
    if name not in {"gzip", "x-gzip"}:
        received = name if name in {"deflate", "br", "zstd", "compress"} else "another"
        raise RefusalError(
            415,
            "bad_request",
            f"Expected a body as it is, or with Content-Encoding gzip; received {received}.",
            {"Accept-Encoding": "gzip"},
        )
    parts: list[bytes] = []
    left = most
    rest = body
    try:
        while rest:  # a gzip file may have several members
            member = zlib.decompressobj(GZIP)
            parts.append(member.decompress(rest, left + 1))
            left -= len(parts[-1])
            if left < 0:
                raise body_too_large(most)
            if not member.eof:
                raise zlib.error("cut short")
            rest = member.unused_data
    except zlib.error as error:
        message = "Expected a gzip body, as Content-Encoding says; it is damaged or cut short."
        raise RefusalError(400, "bad_request", message) from error
    return b"".join(parts)


async def drop_rest(receive: Receive) -> None:
    """Throw away what a refused client still sends, up to a size and a time.

    Closing a connection with unread bytes resets it, and a client that writes its whole body
    before it reads would lose the answer that says why.
    """
    deadline = time.monotonic() + REST_S
    dropped = 0
    while dropped < REST_BYTES and time.monotonic() < deadline:
        try:
            async with asyncio.timeout(REST_PAUSE_S):
                message = await receive()
        except TimeoutError:
            return
        dropped += len(message.get("body", b""))
        if not message.get("more_body", False):
            return


async def refuse_unread(scope: Scope, receive: Receive, send: Send, refusal: RefusalError) -> None:
    """Answer a request whose body has not been read, drop the rest of it, and hang up."""
    refusal.headers.setdefault("Connection", "close")

    async def send_then_drop_rest(message: Message) -> None:
        if message["type"] != "http.response.body":
            return await send(message)
        await send({**message, "more_body": True})
        await drop_rest(receive)
        return await send({"type": "http.response.body", "body": b""})

    await send_refusal(scope, receive, send_then_drop_rest, refusal)
