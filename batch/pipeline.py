"""Reading ahead of the model: threads fetch, two calls of the model overlap, rows go to a sink."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from batch.faults import CannotRunError, is_transient_read_fault, s3_sentence
from batch.pyfunc import Scorer
from batch.source.fetch import Fetched, Read
from batch.source.listing import ScanObject
from batch.source.selection import SelectedPage

MAX_HELD_BYTES = 256 * 2**20  # of objects read ahead and not scored yet
MIN_WINDOW = 256  # objects
STORE_IS_AWAY = 50  # objects in a row that could not be read
CALLS = 2  # of the model at once: one decodes its first scans while the other's are in the network


@dataclass(frozen=True)
class Pace:
    """How much is under way at once.

    `window` bounds the objects that are being read, or were read and whose rows are not durable
    yet: what a kill can cost.
    """

    batch_size: int
    workers: int

    @property
    def window(self) -> int:
        """Objects that a kill may cost: 256, or four batches where that is more."""
        return max(MIN_WINDOW, 4 * self.batch_size)

    @property
    def segment_rows(self) -> int:
        """Rows that become durable together, so that writing overlaps with scoring."""
        return self.window // 4

    @property
    def ahead(self) -> int:
        """Objects held or being read, and not scored: enough to keep threads and model busy."""
        return min(2 * self.batch_size + self.workers, self.window // 2)


@dataclass
class Tally:
    """What this run has done so far. Written by one thread, read by the progress display."""

    objects_listed: int = 0
    objects_skipped: int = 0  # scored by an earlier run
    objects_read: int = 0
    bytes_read: int = 0
    rows_scored: int = 0
    rows_failed: int = 0
    started: float = field(default_factory=time.monotonic)
    objects_total: int | None = None  # once the listing has been counted
    bytes_listed: int = 0
    objects_passed_over: int = 0  # hidden or system files

    def add_page(self, page: SelectedPage) -> None:
        """Count a page of the listing."""
        self.objects_listed += len(page.objects)
        self.bytes_listed += sum(scan.size_bytes for scan in page.objects)
        self.objects_passed_over += page.passed_over


class Sink(Protocol):
    """Where rows go."""

    undurable: int  # rows that a kill would lose

    def put(self, rows: list[dict[str, Any]]) -> None:
        """Take rows, soon durable."""

    def flush(self) -> None:
        """Return when every row is durable."""


@dataclass(frozen=True)
class Stamp:
    """What every row says about its model."""

    model_uri: str
    model_digest: str


def score_all(
    scans: Iterator[ScanObject],
    read: Read,
    scorer: Scorer,
    stamp: Stamp,
    sink: Sink,
    pace: Pace,
    stop: threading.Event,
    tally: Tally,
    wake: SimpleQueue[Any] | None = None,
) -> None:
    """Score every object and give each one row to the sink, then flush it.

    Args:
        wake: gets an item whenever the sink's `undurable` shrinks.

    Raises:
        CannotRunError: credentials ended or the store is away; rows scored so far are durable.
    """
    run = _Run(read, pace, stop, tally, wake or SimpleQueue())
    calls = _Calls(scorer, stamp, run, sink)
    with ThreadPoolExecutor(pace.workers, thread_name_prefix="read") as pool:
        try:
            while not stop.is_set():
                run.read_ahead(scans, pool, sink.undurable)
                if calls.one_more() or calls.collect():
                    continue
                if run.idle and not calls:
                    break
                run.wait()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            calls.finish()
            sink.flush()


class _Calls:
    """The batches that are with the model, oldest first; their rows go to the sink in order."""

    def __init__(self, scorer: Scorer, stamp: Stamp, run: _Run, sink: Sink) -> None:
        self.scorer, self.stamp, self.run, self.sink = scorer, stamp, run, sink
        self.pool = ThreadPoolExecutor(CALLS, thread_name_prefix="score")
        self.pending: deque[tuple[list[Fetched], Future[list[dict[str, Any]]]]] = deque()

    def __len__(self) -> int:
        return len(self.pending)

    def one_more(self) -> bool:
        """Hand a batch to the model; say whether there was a batch, and a place for it."""
        batch = self.run.next_batch() if len(self) < CALLS else []
        if batch:
            call = self.pool.submit(_rows, batch, self.scorer, self.stamp)
            call.add_done_callback(lambda _: self.run.events.put(None))
            self.pending.append((batch, call))
        return bool(batch)

    def collect(self) -> bool:
        """Give the rows of the oldest batch to the sink; say whether it was done."""
        if not self.pending or not self.pending[0][1].done():
            return False
        batch, call = self.pending.popleft()
        rows = call.result()
        self.run.scored(batch, rows)
        self.sink.put(rows)
        return True

    def finish(self) -> None:
        """Wait for the model, so that what it was given is not lost."""
        self.pool.shutdown(wait=True)
        while self.collect():
            pass


class _Run:
    """The objects between listing and rows."""

    def __init__(
        self, read: Read, pace: Pace, stop: threading.Event, tally: Tally, events: SimpleQueue[Any]
    ) -> None:
        self.read, self.pace, self.stop, self.tally = read, pace, stop, tally
        self.events = events
        self.fetching = 0
        self.scoring = 0
        self.held_bytes = 0
        self.ready: list[Fetched] = []
        self.more = True
        self.full = False  # the bytes held are at their limit
        self.failed_in_a_row = 0

    @property
    def idle(self) -> bool:
        return not (self.more or self.fetching or self.ready)

    def read_ahead(
        self, scans: Iterator[ScanObject], pool: ThreadPoolExecutor, undurable: int
    ) -> None:
        room = min(self.pace.ahead, self.pace.window - self.scoring - undurable)
        while self.more and self.fetching + len(self.ready) < room:
            self.full = self.held_bytes > MAX_HELD_BYTES
            if self.full:
                return
            scan = next(scans, None)
            if scan is None:
                self.more = False
                return
            self.fetching += 1
            self.held_bytes += scan.size_bytes
            pool.submit(self.read, scan).add_done_callback(
                lambda future, size=scan.size_bytes: self.events.put((future, size))  # type: ignore[misc]
            )

    def next_batch(self) -> list[Fetched]:
        """Return a full batch, or what there is when nothing more can come before it."""
        self._collect()
        if len(self.ready) < self.pace.batch_size and (
            self.fetching or (self.more and not self.full)
        ):
            return []
        batch = self.ready[: self.pace.batch_size]
        self.ready = self.ready[self.pace.batch_size :]
        self.scoring += len(batch)
        return batch

    def scored(self, batch: list[Fetched], rows: list[dict[str, Any]]) -> None:
        """Count a batch whose rows are there; its bytes are held no longer."""
        self.scoring -= len(batch)
        self.held_bytes -= sum(fetched.scan.size_bytes for fetched in batch)
        failed = sum(isinstance(row.get("error"), str) for row in rows)
        self.tally.rows_failed += failed
        self.tally.rows_scored += len(rows) - failed

    def wait(self) -> None:
        """Wait for an object, the model, the sink, or a moment (so that a signal is noticed)."""
        try:
            self._take(self.events.get(timeout=0.5))
        except Empty:
            return

    def _collect(self) -> None:
        while True:
            try:
                self._take(self.events.get_nowait())
            except Empty:
                return

    def _take(self, event: tuple[Future[Fetched], int] | None) -> None:
        if event is None:
            return
        future, listed_bytes = event
        self.fetching -= 1
        if future.cancelled():
            return
        error = future.exception()
        if error is not None:
            doing = "go on reading the input"
            raise CannotRunError(s3_sentence(error, doing)) from error  # type: ignore[arg-type]
        fetched = future.result()
        self.held_bytes += fetched.scan.size_bytes - listed_bytes
        self.ready.append(fetched)
        if fetched.data is not None:
            self.tally.objects_read += 1
            self.tally.bytes_read += len(fetched.data)
        if fetched.error and is_transient_read_fault(fetched.error):
            self.failed_in_a_row += 1
        else:
            self.failed_in_a_row = 0
        if self.failed_in_a_row >= STORE_IS_AWAY:
            raise CannotRunError(
                f"Cannot go on reading the input: {STORE_IS_AWAY} objects in a row failed "
                f"({fetched.error}). Check the endpoint, then run the same command again with "
                "--retry-failed."
            )


def _rows(batch: list[Fetched], scorer: Scorer, stamp: Stamp) -> list[dict[str, Any]]:
    images = [fetched.data for fetched in batch if fetched.data is not None]
    answers = iter(scorer.score(images) if images else [])
    now = datetime.now(UTC)
    rows = []
    for fetched in batch:
        answer = next(answers) if fetched.data is not None else {"error": fetched.error}
        scan = fetched.scan
        rows.append(
            answer
            | {
                "uri": scan.uri,
                "etag": scan.etag,
                "size_bytes": scan.size_bytes,
                "last_modified": scan.last_modified,
                "model_uri": stamp.model_uri,
                "model_digest": stamp.model_digest,
                "scored_at": now,
            }
        )
    return rows
