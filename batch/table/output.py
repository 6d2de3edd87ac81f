"""The output: rows become durable in a journal, then whole parts, each object's row once.

    _journal/…        segments of about a quarter of the batch window; readers ignore the folder
    _digests/…        of the parts, to notice one that was damaged
    part-00000.parquet …  at most ROWS_PER_PART rows each; an object is in exactly one of them
    summary.json, _symlink_format_manifest/manifest, _SUCCESS   when finished

A part is only ever replaced whole (one conditional write), so a reader meets each row at most once
at any moment. See docs/adr/0010-journal-and-parts.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute

from batch.store.stores import Store
from batch.table.index import DoneIndex, key_of, version_of
from batch.table.journal import JOURNAL, read_segment
from batch.table.part_files import PartFiles

ROWS_PER_PART = 10_000  # about 1 MB of Parquet; some 15 MB of memory while one is written
SUCCESS = "_SUCCESS"


class Output:
    """The rows of one job."""

    def __init__(self, store: Store, file_format: str, schema: pa.Schema) -> None:
        self.store = store
        self.schema = schema
        self.files = PartFiles(store, file_format, schema)
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
        segments = (read_segment(self.store, name, self.schema) for name in self._segments)
        journal = _newest(pa.concat_tables([self._empty(), *segments]))
        self._hold(journal.filter(pa.array(~self._scan(names, journal))))
        if self._segments:
            self.publish()
            self._scan(self.store.names(), self._empty())

    def _scan(self, names: list[str], journal: pa.Table) -> np.ndarray:
        """Index the parts; return for each of the journal's rows whether it is in a part."""
        self.index, self._parts, self._last_rows = DoneIndex(), [], ROWS_PER_PART
        published = np.zeros(journal.num_rows, np.bool_)
        row_of = {uri: row for row, uri in enumerate(journal["uri"].to_pylist())}
        scored_at = journal["scored_at"].to_pylist()
        numbers = self.files.numbers(names)
        for number, table in zip(numbers, self.files.read(numbers), strict=True):
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

    def adopt(self, segment: str, table: pa.Table) -> None:
        """Take over a segment that is durable already, and publish when a part is full."""
        self.unfinish()
        self._segments.append(segment)
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
            self.unfinish()
        for number in np.unique(where[where >= 0]):
            self._replace_rows(int(number), rows.filter(pa.array(where == number)))
        self._append(rows.filter(pa.array(where < 0)))
        self.store.delete(self._segments)
        self._segments, self._pending, self._pending_rows = [], [], 0

    def drop_unseen(self) -> int:
        """Remove the rows of objects that are no longer listed and return how many they were."""
        gone = self.index.count_unseen()
        if not gone:
            return 0
        self.unfinish()
        for number, keys in self.index.unseen():

            def keep(table: pa.Table, keys: set[bytes] = keys) -> pa.Table:
                mask = [key_of(uri) not in keys for uri in table["uri"].to_pylist()]
                return table.filter(pa.array(mask, pa.bool_()))

            self.files.rewrite(number, keep)
        return gone

    def tables(self) -> Iterator[tuple[str, pa.Table]]:
        """Yield every part's name and rows."""
        for number, table in self.numbered_tables():
            yield self.files.name(number), table

    @property
    def numbers(self) -> list[int]:
        """Return the parts' numbers, ascending."""
        return list(self._parts)

    def digest(self) -> str:
        """Return a digest of all parts, each as it was last read or written."""
        lines = "".join(f"{self.files.name(n)} {self.files.digests[n]}\n" for n in self._parts)
        return hashlib.sha256(lines.encode()).hexdigest()

    def numbered_tables(self) -> Iterator[tuple[int, pa.Table]]:
        """Yield every part's number and rows."""
        yield from zip(self._parts, self.files.read(self._parts), strict=True)

    def replace_columns(self, number: int, columns: pa.Table) -> pa.Table:
        """Put other values in some columns of a part, and return its rows.

        Args:
            columns: as many rows as the part has, in its order.
        """
        self.unfinish()
        made: list[pa.Table] = []

        def replaced(table: pa.Table) -> pa.Table:
            for name in columns.column_names:
                place = table.schema.get_field_index(name)
                values = columns[name].cast(table.schema.field(name).type)
                table = table.set_column(place, table.schema.field(name), values)
            made.append(table)
            return table

        self.files.rewrite(number, replaced)
        return made[0]

    def forget_index(self) -> None:
        """Free the disk space of the index. Call when nothing more is scored or published."""
        self.index = DoneIndex()

    def sweep(self) -> None:
        """Delete segments that a lost attempt on Spark wrote a second time. Call when finished."""
        self.store.delete(self.store.names(JOURNAL))

    def _hold(self, table: pa.Table) -> None:
        self._pending.append(table)
        self._pending_rows += table.num_rows

    def _empty(self) -> pa.Table:
        return self.schema.empty_table()

    def unfinish(self) -> None:
        """Say that the output is changing: call before any change."""
        if self._finished:
            self.store.delete([SUCCESS])
            self._finished = False

    def _add_to_index(self, table: pa.Table, part: int) -> None:
        columns = (table[name].to_pylist() for name in ("etag", "model_digest"))
        versions = [version_of(*row) for row in zip(*columns, strict=True)]
        failed = table["error"].is_valid().to_pylist()
        self.index.add(table["uri"].to_pylist(), versions, failed, part)

    def _replace_rows(self, number: int, rows: pa.Table) -> None:
        def replaced(table: pa.Table) -> pa.Table:
            old = pa.compute.is_in(table["uri"], value_set=rows["uri"].combine_chunks())
            return pa.concat_tables([table.filter(pa.compute.invert(old)), rows])

        self.files.rewrite(number, replaced)

    def _append(self, rows: pa.Table) -> None:
        room = ROWS_PER_PART - self._last_rows
        if rows.num_rows and self._parts and room > 0:
            head, rows = rows.slice(0, room), rows.slice(room)
            self.files.rewrite(self._parts[-1], lambda table: pa.concat_tables([table, head]))
            self._last_rows += head.num_rows
        while rows.num_rows:
            head, rows = rows.slice(0, ROWS_PER_PART), rows.slice(ROWS_PER_PART)
            number = self._parts[-1] + 1 if self._parts else 0
            self.files.create(number, head)
            self._parts.append(number)
            self._last_rows = head.num_rows


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
