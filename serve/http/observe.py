"""One log line and the Prometheus metrics of each request.

Neither holds a file name, a key, an address, a query or anything sent: only routes the server
knows, counts and times.
"""

from __future__ import annotations

import logging
import os
import re
import time
import uuid
from typing import Any

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.http.errors import internal, send_refusal
from serve.http.request_facts import (
    CURRENT,
    FAILED,
    OUT_OF_DOMAIN,
    SKIPPED,
    UNDECIDED,
    RequestFacts,
    raised_at,
)

logger = logging.getLogger("serve")

ROUTES = {
    "/", "/predict", "/series", "/pixels", "/invocations", "/model", "/metrics", "/ping", "/health",
    "/readyz", "/version", "/docs", "/openapi.json",
}  # fmt: skip
METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"}
# From a health check (1 ms) to a large batch on a small machine (a minute).
SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

MODEL_LABELS = ("name", "version", "stage", "precision", "data_digest", "model_digest")


EXPECTED = {"busy", "not_ready", "not_supported"}  # of a server that is well
REQUEST_ID = "X-Request-ID"
PLAIN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Metrics:
    """The counters of one server process, or of all workers together.

    With several workers, `PROMETHEUS_MULTIPROC_DIR` names the folder in which prometheus_client
    keeps each worker's counts, and an answer adds them up.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own: dict[str, Any] = {"registry": self.registry}
        self.requests = Counter(
            "chest_ct_requests", "Requests answered.", ["route", "method", "status"], **own
        )
        self.seconds = Histogram(
            "chest_ct_request_seconds",
            "Time from a request's headers to the end of its answer.",
            ["route"],
            buckets=SECONDS,
            **own,
        )
        self.in_flight = Gauge(
            "chest_ct_requests_in_flight",
            "Requests being answered now.",
            multiprocess_mode="livesum",
            **own,
        )
        self.rows = Counter("chest_ct_rows", "Scans answered, by outcome.", ["outcome"], **own)
        self.answers = Counter(
            "chest_ct_answers",
            "Scans by kind of answer: answered, undecided, out_of_domain, failed or skipped.",
            ["answer"],
            **own,
        )
        self.labels = Counter(
            "chest_ct_labels", "Scans that are answered, by label.", ["label"], **own
        )
        self.series = Counter(
            "chest_ct_series",
            "Series by kind of answer: answered, undecided or failed.",
            ["answer"],
            **own,
        )
        self.errors = Counter("chest_ct_errors", "Requests refused, by kind.", ["kind"], **own)
        self.model_info = Gauge(
            "chest_ct_model_info",
            "1, with what is known about the model as labels.",
            MODEL_LABELS,
            multiprocess_mode="mostrecent",
            **own,
        )

    def describe_model(self, about: dict[str, Any]) -> None:
        """Set the model's labels from the answer of GET /model."""
        values = {name: str(about.get(name) or "") for name in MODEL_LABELS}
        self.model_info.labels(**values).set(1)

    def answer(self) -> Response:
        """Return the metrics in Prometheus's text format."""
        registry = self.registry
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    def count(
        self, route: str, method: str, status: int, took_s: float, facts: RequestFacts
    ) -> None:
        """Count one finished request."""
        self.requests.labels(route, method, str(status)).inc()
        self.seconds.labels(route).observe(took_s)
        if facts.answers:
            unscored = facts.answers[FAILED] + facts.answers[SKIPPED]
            self.rows.labels("scored").inc(facts.answers.total() - unscored)
            self.rows.labels("error").inc(facts.answers[FAILED])
        for answer, rows in facts.answers.items():
            self.answers.labels(answer).inc(rows)
        for label, rows in facts.labels.items():
            self.labels.labels(label).inc(rows)
        for answer, number in facts.series.items():
            self.series.labels(answer).inc(number)
        if facts.error_kind:
            self.errors.labels(facts.error_kind).inc()


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
