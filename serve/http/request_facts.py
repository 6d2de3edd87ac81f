"""What the parts of the server tell each other about the request in hand."""

from __future__ import annotations

import threading
import traceback
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from serve.http.errors import RefusalError


class Slot:
    """One place among the requests in flight, free again when its last holder lets go.

    A request that timed out has been answered, but the thread that scores it cannot be stopped;
    it keeps the place, so that a server that is too slow does not take on more and more work.
    """

    def __init__(self, capacity: Capacity) -> None:
        self._capacity = capacity
        self._holders = 1

    def hold(self) -> bool:
        """Add a holder; False if the slot is already free, so the work is no longer wanted."""
        with self._capacity.lock:
            if not self._holders:
                return False
            self._holders += 1
            return True

    def release(self) -> None:
        """Take a holder away, and free the place with the last one."""
        with self._capacity.lock:
            self._holders -= 1
            if not self._holders:
                self._capacity.used -= 1


class Capacity:
    """Counts the places for requests in flight; there are never more than `places` slots."""

    def __init__(self, places: int) -> None:
        self.places = places
        self.used = 0
        self.lock = threading.Lock()

    def full(self) -> bool:
        """Return whether every place is taken."""
        return self.used >= self.places

    def take(self) -> Slot | None:
        """Return a slot, or None if every place is taken."""
        with self.lock:
            if self.used >= self.places:
                return None
            self.used += 1
            return Slot(self)


@dataclass
class RequestFacts:
    """What is known about one request; the log line and the metrics are written from it."""

    rows: int = 0
    rows_with_error: int = 0
    bytes_in: int = 0
    error_kind: str | None = None
    refusal: RefusalError | None = None
    failure: str | None = None
    slot: Slot | None = None
    columns: list[str] = field(default_factory=list)


CURRENT: ContextVar[RequestFacts] = ContextVar("chest_ct_request")


def current() -> RequestFacts:
    """Return the facts of the request that this task or thread works for."""
    return CURRENT.get(RequestFacts())


def raised_at(error: Exception) -> str:
    """Return an exception's type and the line that raised it, without its text.

    The text may hold what was sent, and a log must not.
    """
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"
