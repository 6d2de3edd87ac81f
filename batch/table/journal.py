"""Rows on their way to the journal: written by one thread while the next scans are scored."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

import pyarrow as pa

from batch.table.parts import to_table

MAX_AGE_S = 30  # rows wait no longer than this for a segment to fill

Write = Callable[[str, pa.Table], None]


class SegmentSink:
    """Collects rows and writes each full segment under a name of its own.

    Attributes:
        undurable: rows that a kill would lose.
    """

    def __init__(
        self,
        write: Write,
        prefix: str,
        schema: pa.Schema,
        segment_rows: int,
        wake: SimpleQueue[Any],
    ) -> None:
        """Open the sink.

        Args:
            write: makes a table durable under a name; called from one thread.
            prefix: of the names; unique to this run (and, on Spark, to this attempt of a task).
            wake: gets an item whenever `undurable` shrinks.
        """
        self.undurable = 0
        self._write, self._prefix, self._schema = write, prefix, schema
        self._segment_rows, self._wake = segment_rows, wake
        self._rows: list[dict[str, Any]] = []
        self._oldest = 0.0
        self._number = 0
        self._lock = threading.Lock()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="write")
        self._writing: list[Future[None]] = []

    def put(self, rows: list[dict[str, Any]]) -> None:
        """Take rows; raise what an earlier write raised."""
        if not self._rows:
            self._oldest = time.monotonic()
        self._rows.extend(rows)
        with self._lock:
            self.undurable += len(rows)
        self._check()
        if len(self._rows) >= self._segment_rows or time.monotonic() - self._oldest > MAX_AGE_S:
            self._submit()

    def flush(self) -> None:
        """Return when every row is durable; raise what a write raised."""
        if self._rows:
            self._submit()
        self._writer.shutdown(wait=True)
        self._check()

    def _submit(self) -> None:
        rows, self._rows = self._rows, []
        name = f"{self._prefix}-{self._number:06d}.parquet"
        self._number += 1
        self._writing.append(self._writer.submit(self._store, name, rows))

    def _store(self, name: str, rows: list[dict[str, Any]]) -> None:
        try:
            self._write(name, to_table(rows, self._schema))
            with self._lock:
                self.undurable -= len(rows)
        finally:
            self._wake.put(None)

    def _check(self) -> None:
        pending = []
        for write in self._writing:
            if write.done():
                write.result()
            else:
                pending.append(write)
        self._writing = pending
