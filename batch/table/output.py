"""The output: rows become durable in a journal, then whole parts, each object's row once.

    _journal/…        segments of at most a quarter of the batch window; readers ignore the folder
    part-00000.parquet …  at most ROWS_PER_PART rows each; an object is in exactly one of them
    summary.json, _symlink_format_manifest/manifest, _SUCCESS   when finished

A part is only ever replaced whole (one conditional write), so a reader meets each row at most once
at any moment. See docs/adr/0010-journal-and-parts.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.compute

from batch.faults import CannotRunError, LockLostError
from batch.store.stores import ConflictError, Store
from batch.table.index import KEY, DoneIndex, key_of, version_of
from batch.table.parts import conform, decode, encode, part_name, part_names

ROWS_PER_PART = 10_000  # about 1 MB of Parquet; some 15 MB of memory while one is written
JOURNAL = "_journal/"
SUCCESS = "_SUCCESS"
READ_AHEAD = 8  # files


class Output:
    """The rows of one job."""

    def __init__(self, store: Store, file_format: str, schema: pa.Schema) -> None:
        self.store = store
        self.format = file_format
        self.schema = schema
        self.index = DoneIndex()
        self._parts: list[int] = []  # numbers, ascending
        self._last_rows = ROWS_PER_PART  # rows in the last part
        self._segments: list[str] = []  # journalled and not yet in a part
        self._pending: list[pa.Table] = []  # their rows
        self._pending_rows = 0
        self._finished = True

    def load(self) -> None:
        """Index the parts, then bring what a killed run left in the journal into parts."""
        names = self.store.names()
        self._finished = SUCCESS in names
        self._segments = [name for name in names if name.startswith(JOURNAL)]
        journal = _newest(pa.concat_tables([self._empty(), *self._read(self._segments, "parquet")]))
        self._hold(journal.filter(pa.array(~self._scan(names, journal))))
        if self._segments:
            self.publish()
            self._scan(self.store.names(), self._empty())

    def _scan(self, names: list[str], journal: pa.Table) -> np.ndarray:
        """Index the parts; say of each of the journal's rows whether it is in a part."""
        self.index, self._parts, self._last_rows = DoneIndex(), [], ROWS_PER_PART
        published = np.zeros(journal.num_rows, np.bool_)
        row_of = {uri: row for row, uri in enumerate(journal["uri"].to_pylist())}
        scored_at = journal["scored_at"].to_pylist()
        parts = part_names(names, self.format)
        for name, table in zip(parts, self._read(parts, self.format), strict=True):
            number = int(name[5:].partition(".")[0])
            self._add_to_index(table, number)
            self._parts.append(number)
            self._last_rows = table.num_rows
            if row_of:
                times = zip(table["uri"].to_pylist(), table["scored_at"].to_pylist(), strict=True)
                for uri, at in times:
                    row = row_of.get(uri)
                    if row is not None and scored_at[row] == at:
                        published[row] = True
        self.index.freeze()
        return published

    def journal(self, name: str, table: pa.Table) -> None:
        """Make rows durable under a name of the caller's. They reach a part later."""
        write_segment(self.store, name, table)
        self.adopt([name], table)

    def adopt(self, names: Iterable[str], table: pa.Table) -> None:
        """Take over segments that are durable already, and publish when a part is full."""
        self._unfinish()
        self._segments.extend(names)
        self._hold(table)
        if self._pending_rows >= ROWS_PER_PART:
            self.publish()

    def publish(self) -> None:
        """Bring the journal's rows into parts: new versions in place of the old, the rest behind.

        It can be interrupted anywhere: a row is known by object and time, so the next `load` finds
        which rows had arrived.
        """
        if not self._segments:
            return
        rows = _newest(pa.concat_tables([self._empty(), *self._pending]))
        where = np.full(rows.num_rows, -1, np.int64)
        if len(self.index):
            where = self.index.parts_of(rows["uri"].to_pylist())
        if rows.num_rows:
            self._unfinish()
        for number in np.unique(where[where >= 0]):
            self._replace_rows(int(number), rows.filter(pa.array(where == number)))
        self._append(rows.filter(pa.array(where < 0)))
        self.store.delete(self._segments)
        self._segments, self._pending, self._pending_rows = [], [], 0

    def drop_unseen(self) -> int:
        """Remove the rows of objects that are no longer listed and return how many they were."""
        gone = ~self.index.seen
        if not gone.any():
            return 0
        self._unfinish()
        for number in np.unique(self.index.parts[gone]):
            keys = self.index.keys[gone & (self.index.parts == number)]

            def keep(table: pa.Table, keys: np.ndarray = keys) -> pa.Table:
                own = np.array([key_of(uri) for uri in table["uri"].to_pylist()], KEY)
                return table.filter(pa.array(~np.isin(own, keys)))

            self._rewrite(int(number), keep)
        return int(gone.sum())

    def tables(self) -> Iterator[tuple[str, pa.Table]]:
        """Yield every part's name and rows."""
        names = [part_name(number, self.format) for number in self._parts]
        yield from zip(names, self._read(names, self.format), strict=True)

    def sweep(self) -> None:
        """Delete segments that a lost attempt on Spark wrote a second time. Call when finished."""
        self.store.delete(self.store.names(JOURNAL))

    def _hold(self, table: pa.Table) -> None:
        self._pending.append(table)
        self._pending_rows += table.num_rows

    def _empty(self) -> pa.Table:
        return self.schema.empty_table()

    def _unfinish(self) -> None:
        if self._finished:
            self.store.delete([SUCCESS])
            self._finished = False

    def _read(self, names: list[str], file_format: str) -> Iterator[pa.Table]:
        with ThreadPoolExecutor(READ_AHEAD) as pool:
            for start in range(0, len(names), READ_AHEAD):  # never more than these in memory
                some = names[start : start + READ_AHEAD]
                for name, (data, _tag) in zip(some, pool.map(self.store.read, some), strict=True):
                    yield self._decode(name, data, file_format)

    def _decode(self, name: str, data: bytes, file_format: str) -> pa.Table:
        try:
            return decode(data, file_format, self.schema)
        except (pa.ArrowException, OSError) as error:
            raise CannotRunError(
                f"{self.store.uri}{name} is damaged: it is no whole {file_format} file of this "
                "job's. Restore or delete it and run the same command again (its objects are then "
                "scored again), or add --overwrite to start anew."
            ) from error

    def _add_to_index(self, table: pa.Table, part: int) -> None:
        columns = (table[name].to_pylist() for name in ("etag", "model_uri", "model_digest"))
        versions = [version_of(*row) for row in zip(*columns, strict=True)]
        failed = table["error"].is_valid().to_pylist()
        self.index.add(table["uri"].to_pylist(), versions, failed, part)

    def _replace_rows(self, number: int, rows: pa.Table) -> None:
        def replaced(table: pa.Table) -> pa.Table:
            old = pa.compute.is_in(table["uri"], value_set=rows["uri"].combine_chunks())
            return pa.concat_tables([table.filter(pa.compute.invert(old)), rows])

        self._rewrite(number, replaced)

    def _append(self, rows: pa.Table) -> None:
        room = ROWS_PER_PART - self._last_rows
        if rows.num_rows and self._parts and room > 0:
            head, rows = rows.slice(0, room), rows.slice(room)
            self._rewrite(self._parts[-1], lambda table: pa.concat_tables([table, head]))
            self._last_rows += head.num_rows
        while rows.num_rows:
            head, rows = rows.slice(0, ROWS_PER_PART), rows.slice(ROWS_PER_PART)
            number = self._parts[-1] + 1 if self._parts else 0
            self._write(number, head, "absent")
            self._parts.append(number)
            self._last_rows = head.num_rows

    def _rewrite(self, number: int, change: Callable[[pa.Table], pa.Table]) -> None:
        data, tag = self.store.read(part_name(number, self.format))
        table = self._decode(part_name(number, self.format), data, self.format)
        self._write(number, change(table), tag)

    def _write(self, number: int, table: pa.Table, only_if: str) -> None:
        name = part_name(number, self.format)
        try:
            self.store.write(
                name, encode(conform(table, self.schema), self.format), only_if=only_if
            )
        except ConflictError as error:
            raise LockLostError(
                f"{self.store.uri}{name} was changed by another job; this one has stopped. Nothing "
                "is lost: run the same command again when the other has ended."
            ) from error


def write_segment(store: Store, name: str, table: pa.Table) -> None:
    """Write rows to the journal, whole or not at all."""
    store.write(JOURNAL + name if not name.startswith(JOURNAL) else name, encode(table, "parquet"))


def _newest(table: pa.Table) -> pa.Table:
    """Keep each object's newest row."""
    if pa.compute.count_distinct(table["uri"]).as_py() == table.num_rows:
        return table  # the usual case, without a Python object for every row
    last: dict[str, int] = {}
    at = table["scored_at"].to_pylist()
    for row, uri in enumerate(table["uri"].to_pylist()):
        if uri not in last or at[row] >= at[last[uri]]:
            last[uri] = row
    return table if len(last) == table.num_rows else table.take(sorted(last.values()))
