"""Bounds on what clients can take: bytes in memory, places in flight, time."""

from __future__ import annotations

import asyncio
import ipaddress
import threading
from collections.abc import Hashable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.http.bodies import read_body, refuse_unread, too_busy, unpacked
from serve.http.errors import RefusalError, send_refusal
from serve.http.places import Pool, Shares, take_place
from serve.http.request_facts import current
from serve.http.request_limits import RequestLimits

SCORING_PATHS = {"/invocations", "/predict"}
BODIES_IN_MEMORY = 8  # of the largest size, all requests together
SHARE_OF_KEY = 0.75  # of everything, all clients with one of several keys together
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
        self.memory = Pool(BODIES_IN_MEMORY * limits.max_body_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it with 408, 413, 415, 503 or 504."""
        if scope["method"] in {"GET", "HEAD", "OPTIONS"}:
            return await self.app(scope, receive, send)
        shares = self._shares(scope)
        try:
            body = await self._body(receive, shares)
        except ConnectionError:
            current().error_kind = "client_gone"
            return None
        except RefusalError as refusal:
            current().error_kind = refusal.kind
            return await refuse_unread(scope, receive, send, refusal)
        held = len(body)
        try:
            body = await self._unpacked(scope, body)
            if not self.memory.take(max(0, len(body) - held), shares):
                raise too_busy()
            held = max(held, len(body))
            return await self._answer(scope, body, receive, send, shares)
        except RefusalError as refusal:
            current().error_kind = refusal.kind
            return await send_refusal(scope, receive, send, refusal)
        finally:
            self.memory.give_back(held, shares)

    def _shares(self, scope: Scope) -> Shares:
        key, address = current().key_number, address_of(scope)
        shares: dict[Hashable, float] = {(key, address): self.limits.share_of_client}
        if key is not None and self.several_keys:
            shares["key", key] = max(SHARE_OF_KEY, self.limits.share_of_client)
        return shares

    async def _body(self, receive: Receive, shares: Shares) -> bytes:
        place = None if self.scoring.full() else take_place(self.arriving, shares)
        if place is None:
            raise too_busy()
        try:
            body = await read_body(receive, self.limits, self.memory, shares)
        finally:
            place.release()
        current().bytes_in = len(body)
        return body

    async def _unpacked(self, scope: Scope, body: bytes) -> bytes:
        encoding = Headers(scope=scope).get("content-encoding")
        if encoding is None:
            return body
        body = await asyncio.to_thread(unpacked, body, encoding, self.limits.max_body_bytes)
        headers = MutableHeaders(scope=scope)
        del headers["content-encoding"]
        headers["content-length"] = str(len(body))
        return body

    async def _answer(
        self, scope: Scope, body: bytes, receive: Receive, send: Send, shares: Shares
    ) -> None:
        if scope["path"] not in SCORING_PATHS:
            return await self.app(scope, replayed(body), send)
        place = take_place(self.scoring, shares)
        if place is None:
            raise too_busy()
        current().place = place
        try:
            return await self._while_wanted(scope, body, receive, send)
        finally:
            place.release()

    async def _while_wanted(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
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


def replayed(body: bytes) -> Receive:
    """Return a `receive` that hands out a body that has been read, and then waits for ever."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if waiting:
            return waiting.pop()
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    return receive
