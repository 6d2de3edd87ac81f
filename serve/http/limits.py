"""Bounds on what clients can take: bytes in memory, places in flight, time."""

from __future__ import annotations

import asyncio
import ipaddress
import threading
from collections.abc import Hashable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.heap import FREE_BYTES, give_heap_back
from serve.http.bodies import read_body, refuse_unread, too_busy, unpacked
from serve.http.errors import RefusalError, send_refusal
from serve.http.places import Held, Pool, Shares, take_place
from serve.http.request_facts import current
from serve.http.request_limits import RequestLimits

SCORING_PATHS = {"/invocations", "/predict", "/pixels", "/series"}
SHARE_OF_KEY = 0.75  # of everything, all clients with one of several keys together
GIVE_BACK_AFTER_S = 0.5  # by then the thread that scored has let go of its scans
CLIENT_NETWORK_V6 = 64  # bits: the smallest network that one site gets


def address_of(scope: Scope) -> str:
    """Return the network that a request comes from: an IPv4 address, or an IPv6 /64."""
    host = (scope.get("client") or ("",))[0]
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return str(host)
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, CLIENT_NETWORK_V6), strict=False))


class LimitedRequests:
    """ASGI middleware that reads bodies within limits and gives out the places in flight.

    Args:
        app: what answers.
        limits: the bounds.
        keys: number of API keys that the server knows.
    """

    def __init__(self, app: ASGIApp, limits: RequestLimits, keys: int = 0) -> None:
        self.app = app
        self.limits = limits
        self.several_keys = keys > 1
        self.scoring = Pool(limits.max_in_flight)
        self.arriving = Pool(4 * limits.max_in_flight)
        self.memory = Pool(limits.memory_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it with 408, 413, 415, 503 or 504."""
        if scope["method"] in {"GET", "HEAD", "OPTIONS"}:
            return await self.app(scope, receive, send)
        shares = self._shares(scope, self.limits.share_of_client)
        memory_shares = self._shares(scope, self.limits.memory_share_of_client)
        try:
            body = await self._body(scope, receive, shares, memory_shares)
        except ConnectionError:
            current().error_kind = "client_gone"
            return None
        except RefusalError as refusal:
            current().error_kind = refusal.kind
            return await refuse_unread(scope, receive, send, refusal)
        held = Held(self.memory, memory_shares, current().bytes_in)
        try:
            body = await self._unpacked(scope, body)
            if not held.grow_to(sum(map(len, body))):
                raise too_busy()
            return await self._answer(scope, body, receive, send, shares, held)
        except RefusalError as refusal:
            current().error_kind = refusal.kind
            return await send_refusal(scope, receive, send, refusal)
        finally:
            if current().place is None:
                held.give_back()
            if current().bytes_in > FREE_BYTES:
                loop = asyncio.get_running_loop()
                loop.call_later(GIVE_BACK_AFTER_S, loop.run_in_executor, None, give_heap_back)

    def _shares(self, scope: Scope, of_client: float) -> Shares:
        key, address = current().key_number, address_of(scope)
        shares: dict[Hashable, float] = {(key, address): of_client}
        if key is not None and self.several_keys:
            shares["key", key] = max(SHARE_OF_KEY, of_client)
        return shares

    async def _body(
        self, scope: Scope, receive: Receive, shares: Shares, memory_shares: Shares
    ) -> list[bytes]:
        place = None if self.scoring.full() else take_place(self.arriving, shares)
        if place is None:
            raise too_busy()
        try:
            most, grace_s = self.limits.body_bytes(scope["path"]), self.limits.body_grace_s
            body = await read_body(receive, most, grace_s, self.memory, memory_shares)
        finally:
            place.release()
        current().bytes_in = sum(map(len, body))
        return body

    async def _unpacked(self, scope: Scope, body: list[bytes]) -> list[bytes]:
        encoding = Headers(scope=scope).get("content-encoding")
        if encoding is None:
            return body
        packed, most = b"".join(body), self.limits.max_body_bytes
        whole = await asyncio.to_thread(unpacked, packed, encoding, most)
        headers = MutableHeaders(scope=scope)
        del headers["content-encoding"]
        headers["content-length"] = str(len(whole))
        return [whole]

    async def _answer(
        self,
        scope: Scope,
        body: list[bytes],
        receive: Receive,
        send: Send,
        shares: Shares,
        held: Held,
    ) -> None:
        if scope["path"] not in SCORING_PATHS:
            return await self.app(scope, replayed(body), send)
        place = take_place(self.scoring, shares)
        if place is None:
            raise too_busy()
        place.when_free(held.give_back)
        current().place = place
        try:
            return await self._while_wanted(scope, body, receive, send)
        finally:
            place.release()

    async def _while_wanted(
        self, scope: Scope, body: list[bytes], receive: Receive, send: Send
    ) -> None:
        """Answer in time; tell the thread that scores when nobody waits for it any more."""
        abandoned = current().abandoned
        watch = asyncio.create_task(set_when_gone(receive, abandoned))
        try:
            async with asyncio.timeout(self.limits.request_timeout_s):
                await self.app(scope, replayed(body), send)
        except TimeoutError as error:
            raise RefusalError(
                504,
                "timeout",
                f"No answer within {self.limits.request_timeout_s:g} s: send fewer scans at a "
                "time, or try again when the server is less busy.",
            ) from error
        finally:
            abandoned.set()
            watch.cancel()


async def set_when_gone(receive: Receive, abandoned: threading.Event) -> None:
    """Wait until the client hangs up, and set the event."""
    while (await receive())["type"] != "http.disconnect":
        pass
    abandoned.set()


def replayed(body: list[bytes]) -> Receive:
    """Return a `receive` that hands out a body that has been read, and then waits for ever.

    What is handed out is let go, so `body` is empty in the end.
    """
    body.reverse()
    complete = False

    async def receive() -> Message:
        nonlocal complete
        if not complete:
            chunk = body.pop() if body else b""
            complete = not body
            return {"type": "http.request", "body": chunk, "more_body": not complete}
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    return receive
