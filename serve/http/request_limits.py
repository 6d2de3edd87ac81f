"""The bounds of one server process, as its operator chose them."""

from __future__ import annotations

from dataclasses import dataclass

MAX_COLUMNS = 16  # of a table in a request; the model reads one or two of them
SERIES_PATHS = {"/predict"}  # take a whole series at once
BODIES_IN_MEMORY = 8  # of the largest size, all requests together
SERIES_IN_MEMORY = 1.25  # the same of whole series, which are ten times as large
ROWS_PER_SLICE = 10  # rows that were scored before are ten times lighter than a slice, and more


@dataclass(frozen=True)
class RequestLimits:
    """The bounds of one server process.

    Args:
        max_body_bytes: largest request body, also after unpacking.
        max_rows: most scans in one request.
        max_slices: most scans in one request whose series are answered.
        max_series_bytes: largest body of such a request, and most that a zip in it may unpack to.
        max_in_flight: most requests that are scored, or wait to be, at one time. Four times as
            many bodies may be arriving meanwhile, so slow senders do not take others' places.
        max_in_flight_per_client: most of those places that one client may hold; 0 means half.
        request_timeout_s: longest time from the whole body to the answer, in seconds.
        body_grace_s: time a body gets before its rate counts, in seconds.
    """

    max_body_bytes: int = 32 * 1024 * 1024
    max_rows: int = 256
    max_slices: int = 1000
    max_series_bytes: int = 320 * 1024 * 1024
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

    @property
    def most_scans(self) -> int:
        """Return the most scans that any request may hold."""
        return max(self.max_rows, self.max_slices)

    @property
    def max_series_rows(self) -> int:
        """Return the most rows in one request that series are answered from."""
        return ROWS_PER_SLICE * self.max_slices

    def body_bytes(self, path: str) -> int:
        """Return the largest body that a path takes."""
        if path in SERIES_PATHS:
            return max(self.max_body_bytes, self.max_series_bytes)
        return self.max_body_bytes

    @property
    def memory_bytes(self) -> int:
        """Return the most bytes of bodies that are held at one time, all requests together."""
        whole_series = int(SERIES_IN_MEMORY * self.max_series_bytes)
        return max(BODIES_IN_MEMORY * self.max_body_bytes, whole_series)

    @property
    def memory_share_of_client(self) -> float:
        """Return the part of that memory that one client may hold: at least one whole series."""
        return max(self.share_of_client, self.max_series_bytes / self.memory_bytes)
