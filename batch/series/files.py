"""The series table as files, and the record of what it was made from.

    series/part-00000.parquet …   one row per series
    _series.json                  written after the parts: what they were made from, their digests

A series is in the part that a hash of its name says, and a part is replaced whole, so a reader
meets each series at most once even while the table is being remade. Only when the number of parts
changes do the old ones go first.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute

from batch.faults import LockLostError
from batch.series.slices import part_of
from batch.store.stores import ConflictError, Store
from batch.table.parts import conform, decode, encode, part_name

SERIES = "series/"
RECORD = "_series.json"
SERIES_PART = re.compile(r"series/part-\d{5,}\.(parquet|csv)")
ROWS_PER_PART = 10_000


@dataclass(frozen=True)
class SeriesRecord:
    """What the output's series were last made from.

    Attributes:
        slices: digest of the slice parts, whose slices have their places.
        given: digest of the user's table of series, or empty.
        model: digest of the model that answered; empty where there are no answers.
        without_series: slices that are of no series.
        unmet: lines of the user's table that name no slice.
        parts: names of the series table's files, and their digests.
    """

    slices: str
    given: str
    model: str = ""
    without_series: int = 0
    unmet: int = 0
    parts: dict[str, str] = field(default_factory=dict)


@dataclass
class SeriesCounts:
    """What a series table holds. A row is one of `answered`, `undecided`, `failed`."""

    rows: int = 0
    answered: int = 0
    undecided: int = 0
    failed: int = 0

    def add(self, table: pa.Table) -> None:
        """Count the rows of a part."""
        failed = pa.compute.is_valid(table["error"])
        undecided = pa.compute.and_not(pa.compute.fill_null(table["undecided"], False), failed)
        number = [int(pa.compute.sum(flags).as_py() or 0) for flags in (failed, undecided)]
        self.rows += table.num_rows
        self.failed += number[0]
        self.undecided += number[1]
        self.answered += table.num_rows - sum(number)


def parts_needed(series: int) -> int:
    """Return how many parts a table of so many series has: a power of two."""
    parts = 1
    while parts * ROWS_PER_PART < series:
        parts *= 2
    return parts


class SeriesFiles:
    """The files of one output's series table."""

    def __init__(self, store: Store, file_format: str, schema: pa.Schema) -> None:
        self.store, self.format, self.schema = store, file_format, schema

    def names(self) -> list[str]:
        """Return the names of the parts that are there, of either format."""
        return [name for name in self.store.names(SERIES) if SERIES_PART.fullmatch(name)]

    def record(self) -> SeriesRecord | None:
        """Return the record, or None where there is none or it cannot be used."""
        try:
            fields: Any = json.loads(self.store.read(RECORD)[0])
            return SeriesRecord(**fields)
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def write_record(self, record: SeriesRecord) -> None:
        """Say what the files there were made from. Call after the last of them."""
        self.store.write(RECORD, json.dumps(asdict(record), indent=2).encode())

    def counts(self, record: SeriesRecord) -> SeriesCounts | None:
        """Count what the files hold; None if they are not those of the record."""
        counts = SeriesCounts()
        if set(self.names()) != set(record.parts):
            return None
        for name, digest in record.parts.items():
            data, _tag = self.store.read(name)
            if _digest(data) != digest:
                return None
            table = decode(data, self.format, self.schema)
            counts.add(table)
        return counts

    def replace(
        self, tables: Iterable[pa.Table], parts: int
    ) -> tuple[dict[str, str], SeriesCounts]:
        """Write the table anew.

        Args:
            tables: its rows in order of their parts, see `batch.series.slices.part_of`.
            parts: how many.

        Returns:
            The names of the parts with their digests, and what they hold.

        Raises:
            LockLostError: another job has changed a part meanwhile.
        """
        wanted = [SERIES + part_name(number, self.format) for number in range(parts)]
        there = self.names()
        if set(there) - set(wanted) or (there and len(there) != parts):
            self.remove()  # with another number of parts a series would be in two of them
            there = []
        tags = {name: self.store.read(name)[1] for name in there}
        digests, counts = {}, SeriesCounts()
        for name, table in zip(wanted, _by_part(tables, parts, self.schema), strict=True):
            data = encode(conform(table.sort_by("series_uid"), self.schema), self.format)
            try:
                self.store.write(name, data, only_if=tags.get(name, "absent"))
            except ConflictError as error:
                raise LockLostError(
                    f"{self.store.uri}{name} was changed by another job; this one has stopped. Run "
                    "the same command again when the other has ended."
                ) from error
            digests[name] = _digest(data)
            counts.add(table)
        return digests, counts

    def remove(self) -> None:
        """Remove the table: first the record, which vouches for it."""
        self.store.delete([RECORD])
        self.store.delete(self.names())


def _by_part(tables: Iterable[pa.Table], parts: int, schema: pa.Schema) -> Iterator[pa.Table]:
    """Yield one table for each part; `tables` are in order of parts, and may straddle two."""
    number, held = 0, [schema.empty_table()]
    for table in tables:
        of = [part_of(name, parts) for name in table["series_uid"].to_pylist()]
        begin = 0
        for end in range(1, len(of) + 1):
            if end < len(of) and of[end] == of[begin]:
                continue
            while number < of[begin]:
                yield pa.concat_tables(held)
                number, held = number + 1, [schema.empty_table()]
            held.append(table.slice(begin, end - begin))
            begin = end
    while number < parts:
        yield pa.concat_tables(held)
        number, held = number + 1, [schema.empty_table()]


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
