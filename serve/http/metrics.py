"""The Prometheus metrics of requests: routes that the server knows, counts and times."""

from __future__ import annotations

import os
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
from starlette.responses import Response

from serve.http.request_facts import FAILED, SKIPPED, RequestFacts

ROUTES = {
    "/", "/predict", "/series", "/pixels", "/invocations", "/model", "/metrics", "/ping", "/health",
    "/readyz", "/version", "/docs", "/openapi.json",
}  # fmt: skip
METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"}
# From a health check (1 ms) to a large batch on a small machine (a minute).
SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

MODEL_LABELS = ("name", "version", "stage", "precision", "data_digest", "model_digest")


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
