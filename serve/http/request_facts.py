"""What the parts of the server tell each other about the request in hand."""

from __future__ import annotations

import threading
from collections import Counter
from contextvars import ContextVar
from dataclasses import dataclass, field

from serve.http.places import Place

ANSWERED, UNDECIDED, OUT_OF_DOMAIN, FAILED = "answered", "undecided", "out_of_domain", "failed"
SKIPPED = "skipped"  # a slice close to others of its series
ANSWERS = (ANSWERED, UNDECIDED, OUT_OF_DOMAIN, FAILED, SKIPPED)


@dataclass
class RequestFacts:
    """What is known about one request; the log line and the metrics are written from it.

    Args:
        request_id: what the client and the log call it.
        answers: rows by kind of answer, one of `ANSWERS` each.
        labels: rows with an answer, by label.
        series: series by kind of answer: answered, undecided or failed.
        bytes_in: size of the body.
        error_kind: short name of the error that the client was told, if any.
        failure: type and place of an exception in the server or the model, if any.
        key_number: which of the server's API keys came with the request, if any.
        place: the request's place in flight, once it has one.
        abandoned: set once nobody waits for the answer any more.
    """

    request_id: str = ""
    answers: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    series: Counter[str] = field(default_factory=Counter)
    bytes_in: int = 0
    error_kind: str | None = None
    failure: str | None = None
    key_number: int | None = None
    place: Place | None = None
    abandoned: threading.Event = field(default_factory=threading.Event)


CURRENT: ContextVar[RequestFacts] = ContextVar("chest_ct_request")


def current() -> RequestFacts:
    """Return the facts of the request that this task or thread works for."""
    return CURRENT.get(RequestFacts())
