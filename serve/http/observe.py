"""Each request is counted and logged: its id, one line, its metrics.

Neither holds a file name, a key, an address, a query or anything sent: only routes the server
knows, counts and times.
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from logs.lines import raised_at
from serve.http.errors import internal, send_refusal
from serve.http.metrics import METHODS, ROUTES, Metrics
from serve.http.request_facts import (
    CURRENT,
    FAILED,
    OUT_OF_DOMAIN,
    SKIPPED,
    UNDECIDED,
    RequestFacts,
)

logger = logging.getLogger("serve")

EXPECTED = {"busy", "not_ready", "not_supported"}  # of a server that is well
REQUEST_ID = "X-Request-ID"
PLAIN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def request_id(scope: Scope) -> str:
    """Return the id that a client gave its request, if it is a short plain word, or a new one."""
    given = Headers(scope=scope).get(REQUEST_ID, "")
    return given if PLAIN_ID.fullmatch(given) else uuid.uuid4().hex


def route_of(path: str) -> str:
    """Return the known route of a path, so that nothing a client made up is kept."""
    if path in ROUTES:
        return path
    return "/static" if path.startswith(("/static/", "/docs/")) else "other"


class Observed:
    """Outermost ASGI middleware: counts and logs requests, and answers 500 to what escaped."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and note how it went."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        facts = RequestFacts(request_id=request_id(scope))
        CURRENT.set(facts)
        status = 0
        started = time.perf_counter()

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = facts.request_id
            await send(message)

        with self.metrics.in_flight.track_inprogress():
            try:
                await self.app(scope, receive, send_and_note)
            except Exception as error:
                facts.error_kind, facts.failure = "internal", raised_at(error)
                if not status:
                    await send_refusal(scope, receive, send_and_note, internal())
        took_s = time.perf_counter() - started
        route = route_of(scope["path"])
        method = scope["method"] if scope["method"] in METHODS else "other"
        self.metrics.count(route, method, status, took_s, facts)
        log_request(route, method, status, took_s, facts)
        return None


def log_request(route: str, method: str, status: int, took_s: float, facts: RequestFacts) -> None:
    """Write the one line of a request."""
    known = {"status": status, "latency_ms": round(1000 * took_s, 1), **counted(facts)}
    as_text = {"latency_ms": "ms", "failed": "unreadable"}  # names of the text's own
    parts = [f"{method} {route}"]
    parts += [f"{as_text.get(name, name)}={value}" for name, value in known.items()]
    level = logging.ERROR if status >= 500 and facts.error_kind not in EXPECTED else logging.INFO
    extra = {
        "request_id": facts.request_id,
        "facts": {"method": method, "route": route, **known},
    }
    logger.log(level, " ".join(parts), extra=extra)


def counted(facts: RequestFacts) -> dict[str, Any]:
    """Return what a request's line says of its body, rows and errors; nothing that is not there."""
    known: dict[str, Any] = {}
    if facts.bytes_in:
        known["bytes"] = facts.bytes_in
    if facts.answers:
        known |= {"rows": facts.answers.total(), "failed": facts.answers[FAILED]}
        others = (UNDECIDED, OUT_OF_DOMAIN, SKIPPED)
        known |= {kind: facts.answers[kind] for kind in others if facts.answers[kind]}
    if facts.series:
        known["series"] = facts.series.total()
    if facts.error_kind:
        known["error"] = facts.error_kind
    if facts.failure:
        known["raised"] = facts.failure
    return known
