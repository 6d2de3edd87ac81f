"""The bounds of one server process, as its operator chose them."""

from __future__ import annotations

from dataclasses import dataclass

MAX_COLUMNS = 16  # of a table in a request; the model reads one or two of them


@dataclass(frozen=True)
class RequestLimits:
    """The bounds of one server process.

    Args:
        max_body_bytes: largest request body, also after unpacking.
        max_rows: most scans in one request.
        max_in_flight: most requests that are scored, or wait to be, at one time. Four times as
            many bodies may be arriving meanwhile, so slow senders do not take others' places.
        max_in_flight_per_client: most of those places that one client may hold; 0 means half.
        request_timeout_s: longest time from the whole body to the answer, in seconds.
        body_grace_s: time a body gets before its rate counts, in seconds.
    """

    max_body_bytes: int = 32 * 1024 * 1024
    max_rows: int = 256
    max_in_flight: int = 16
    max_in_flight_per_client: int = 0
    request_timeout_s: float = 60.0
    body_grace_s: float = 20.0

    @property
    def share_of_client(self) -> float:
        """Return the part of the places, above 0 and at most 1, that one client may hold."""
        if not self.max_in_flight_per_client:
            return 0.5
        return min(1.0, self.max_in_flight_per_client / self.max_in_flight)
