"""From objects to rows in the journal: read ahead, scored in batches, written in segments.

Reading an object, asking the model and writing a segment each run in a thread and are done some
time later. What follows then is put in one queue, and one thread takes it from there and changes
the state, so nothing here needs a lock.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

from batch.faults import CannotRunError, is_transient_read_fault, s3_sentence
from batch.model_process import CALLS, ModelDiedError, ModelProcess
from batch.progress import RunState
from batch.pyfunc import PinnedModel
from batch.settings import Concurrency
from batch.source.fetch import MAX_BYTES, Fetched
from batch.source.listing import ScanObject
from batch.summary import own_kind
from batch.table.journal import Journal

MAX_HELD_BYTES = 256 * 2**20  # of objects read ahead and not scored yet
STORE_IS_AWAY = 50  # objects in a row that could not be read
MODEL_IS_BROKEN = 50  # scans in a row that each ended the model's process
MAX_AGE_S = 30  # rows wait no longer than this for a segment to fill
NOTICE_STOP_S = 0.5

Fetch = Callable[[ScanObject], Fetched]
Row = dict[str, Any]


def score_objects(
    objects: Iterable[ScanObject],
    fetch: Fetch,
    model: ModelProcess,
    journal: Journal,
    concurrency: Concurrency,
    run: RunState,
) -> None:
    """Score every object and make a row for each durable in the journal.

    When asked to stop (`run.stop`) it ends soon, with what was scored durable.

    Raises:
        CannotRunError: credentials ended, or the store or the model is away; rows scored so far
            are durable.
    """
    pipeline = _Pipeline(iter(objects), fetch, model, journal, concurrency, run)
    try:
        while not run.stop.is_set() and pipeline.start_what_fits():
            pipeline.take_what_is_done()
    finally:
        pipeline.finish()


class _Pipeline:
    """The objects between listing and journal. Its methods run in one thread."""

    def __init__(
        self,
        objects: Iterator[ScanObject],
        fetch: Fetch,
        model: ModelProcess,
        journal: Journal,
        concurrency: Concurrency,
        run: RunState,
    ) -> None:
        self.objects, self.fetch, self.model, self.journal = objects, fetch, model, journal
        self.concurrency, self.run = concurrency, run
        self.done: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self.readers = ThreadPoolExecutor(concurrency.workers, thread_name_prefix="read")
        self.callers = ThreadPoolExecutor(CALLS, thread_name_prefix="score")
        self.writer = ThreadPoolExecutor(1, thread_name_prefix="write")
        self.more = True  # objects may follow
        self.finishing = False
        self.reading = 0
        self.held_bytes = 0
        self.full = False  # there is no memory for the next object
        self.coming: ScanObject | None = None  # that object
        self.failed_in_a_row = 0
        self.ready: list[Fetched] = []
        self.scoring = 0  # objects that are with the model
        self.calls = 0
        self.suspects: deque[Fetched] = deque()  # they were with the model when it died
        self.suspect_alone = False  # one of them is with the model, and nothing else
        self.died_in_a_row = 0
        self.rows: list[Row] = []  # not in a segment yet
        self.oldest_row = 0.0
        self.writing = 0  # rows

    def start_what_fits(self) -> bool:
        """Begin what there is room for; return whether anything is under way."""
        self._read_ahead()
        while batch := self._next_batch():
            self.scoring += len(batch)
            self.calls += 1
            call = self.callers.submit(rows_of, batch, self.model)
            self._then(call, partial(self._scored, batch))
        self._write_segment()
        return bool(self.reading or self.calls or self.writing)

    def take_what_is_done(self) -> None:
        """Wait for something to be done, or a moment, and go on with all that is."""
        with contextlib.suppress(Empty):
            self.done.get(timeout=NOTICE_STOP_S)()
            self._take_all()

    def finish(self) -> None:
        """Make durable what the model was given; leave what it was not."""
        self.finishing = True
        self.readers.shutdown(wait=False, cancel_futures=True)
        self.callers.shutdown(wait=True)
        self.writer.shutdown(wait=True)
        self._take_all()
        if self.rows:
            self.journal.write(self.rows)

    def _then(self, future: Future[Any], follow: Callable[[Future[Any]], None]) -> None:
        future.add_done_callback(lambda done: self.done.put(partial(follow, done)))

    def _take_all(self) -> None:
        with contextlib.suppress(Empty):
            while True:
                self.done.get_nowait()()

    # Reading

    def _read_ahead(self) -> None:
        undurable = self.scoring + len(self.suspects) + len(self.rows) + self.writing
        room = min(self.concurrency.read_ahead, self.concurrency.window - undurable)
        while self.more and self.reading + len(self.ready) < room:
            self.coming = self.coming or next(self.objects, None)
            if self.coming is None:
                self.more = False
                return
            scan, size_bytes = self.coming, bytes_to_hold(self.coming)
            self.full = bool(self.held_bytes) and self.held_bytes + size_bytes > MAX_HELD_BYTES
            if self.full:
                return
            self.coming = None
            self.reading += 1
            self.held_bytes += size_bytes
            self._then(self.readers.submit(self.fetch, scan), partial(self._fetched, scan))

    def _fetched(self, listed: ScanObject, future: Future[Fetched]) -> None:
        self.reading -= 1
        if self.finishing or future.cancelled():
            return
        if (error := future.exception()) is not None:
            doing = "go on reading the input"
            raise CannotRunError(s3_sentence(error, doing)) from error  # type: ignore[arg-type]
        fetched = future.result()
        self.held_bytes += len(fetched.data or b"") - bytes_to_hold(listed)
        self.ready.append(fetched)
        if fetched.data is not None:
            self.run.objects_read += 1
            self.run.bytes_read += len(fetched.data)
        is_away = fetched.error is not None and is_transient_read_fault(fetched.error)
        self.failed_in_a_row = self.failed_in_a_row + 1 if is_away else 0
        if self.failed_in_a_row >= STORE_IS_AWAY:
            raise CannotRunError(
                f"Cannot go on reading the input: {STORE_IS_AWAY} objects in a row failed "
                f"({fetched.error}). Check the endpoint, then run the same command again with "
                "--retry-failed."
            )

    # Scoring

    def _next_batch(self) -> list[Fetched]:
        """Return a full batch, or what there is when nothing more can come before it."""
        if self.suspects or self.suspect_alone:
            if self.calls:
                return []
            self.suspect_alone = True
            return [self.suspects.popleft()]
        more_can_come = self.reading or (self.more and not self.full)
        size = self.concurrency.batch_size
        if self.calls == CALLS or (len(self.ready) < size and more_can_come):
            return []
        batch, self.ready = self.ready[:size], self.ready[size:]
        return batch

    def _scored(self, batch: list[Fetched], future: Future[list[Row]]) -> None:
        self.calls -= 1
        self.scoring -= len(batch)
        was_alone, self.suspect_alone = self.suspect_alone, False
        try:
            rows = future.result()
        except ModelDiedError as died:
            if not was_alone:  # it may have been any of them, so each is scored again alone
                self.suspects.extend(batch)
                return
            error = f"model_died: scoring it ended the model's process, which {died}"
            rows = [row_of(batch[0], {"error": error}, self.model.pinned)]
            self.died_in_a_row += 1
        else:
            self.died_in_a_row = 0
        self.held_bytes -= sum(len(fetched.data or b"") for fetched in batch)
        failed = sum(isinstance(row.get("error"), str) for row in rows)
        self.run.rows_failed += failed
        self.run.rows_scored += len(rows) - failed
        if not self.rows:
            self.oldest_row = time.monotonic()
        self.rows.extend(rows)
        if self.died_in_a_row >= MODEL_IS_BROKEN and not self.finishing:
            raise CannotRunError(
                f"The model's process ended at each of {MODEL_IS_BROKEN} scans in a row ({error}). "
                "Give it more memory or choose another --model-uri, then run the same command "
                "again with --retry-failed."
            )

    # Writing

    def _write_segment(self) -> None:
        full = len(self.rows) >= self.concurrency.segment_rows
        aged = time.monotonic() - self.oldest_row > MAX_AGE_S
        last = not (self.more or self.reading or self.ready or self.calls or self.suspects)
        if self.rows and not self.writing and (full or aged or last):
            rows, self.rows = self.rows, []
            self.writing = len(rows)
            self._then(self.writer.submit(self.journal.write, rows), self._written)

    def _written(self, future: Future[None]) -> None:
        self.writing = 0
        future.result()


def bytes_to_hold(listed: ScanObject) -> int:
    """Return the memory that an object will need: none if it is too large to be read."""
    return listed.size_bytes if listed.size_bytes <= MAX_BYTES else 0


def rows_of(batch: list[Fetched], model: ModelProcess) -> list[Row]:
    """Return a row for each of a batch of objects; those that could not be read keep their error.

    Raises:
        ModelDiedError: the model's process ended meanwhile.
    """
    images = [fetched.data for fetched in batch if fetched.data is not None]
    answers = iter(model.score(images) if images else [])
    return [
        row_of(
            fetched,
            next(answers) if fetched.data is not None else {"error": fetched.error},
            model.pinned,
        )
        for fetched in batch
    ]


def row_of(fetched: Fetched, answer: Row, model: PinnedModel) -> Row:
    """Return the model's answer with what was scored, by which model and when."""
    scan = fetched.scan
    error = answer.get("error")
    if isinstance(error, str) and answer.get("error_code") is None:
        answer = answer | {"error_code": own_kind(error)}
    return answer | {
        "uri": scan.uri,
        "etag": scan.etag,
        "size_bytes": scan.size_bytes,
        "last_modified": scan.last_modified,
        "model_uri": model.uri,
        "model_digest": model.digest,
        "scored_at": datetime.now(UTC),
    }
