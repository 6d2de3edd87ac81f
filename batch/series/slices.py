"""The slice table on this machine's disk: each slice's place in its series, and series in order."""

# ruff: noqa: S608 - what is put into SQL are names of columns and quoted paths

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from batch.faults import CannotRunError
from batch.series.given import GivenSeries
from batch.series.sorting import batches_of, quoted, sorting
from batch.table.parts import PLACE_COLUMNS

if TYPE_CHECKING:
    import duckdb

BATCH_ROWS = 2048
ROWS_PER_PASS = 100_000  # of one sort
NOT_COPIED = {"etag", "size_bytes", "last_modified", "scored_at", "model_uri"}
# What a slice's series and position are without and with a table of series.
SAYS = {
    None: ("slices.series_uid", "slices.position_mm"),
    "series": ("given.series", "slices.position_mm"),
    "series and position_mm": ("given.series", "given.position_mm"),
}


class LocalSlices:
    """A copy of the slice parts, in bounded memory."""

    def __init__(self, folder: Path, database: duckdb.DuckDBPyConnection) -> None:
        self._folder, self._database = folder, database
        (folder / "parts").mkdir()
        self._versions = count()
        self._rows = f"read_parquet({quoted(folder / 'parts' / '*.parquet')})"

    def add(self, part: int, table: pa.Table) -> None:
        """Copy a part, or its new version."""
        # Under a new name, because DuckDB may keep what it has read of a file.
        for old in self._folder.glob(f"parts/{part}-*.parquet"):
            old.unlink()
        kept = table.select([name for name in table.column_names if name not in NOT_COPIED])
        number = pa.array([part] * table.num_rows, pa.int32())
        place = pa.array(range(table.num_rows), pa.int32())
        kept = kept.append_column("part", number).append_column("row", place)
        try:
            pq.write_table(kept, self._folder / f"parts/{part}-{next(self._versions)}.parquet")
        except OSError as error:
            raise CannotRunError(
                f"Cannot copy the slice table to {self._folder} ({error}). Free space there or set "
                "TMPDIR to a larger folder, then run the same command again."
            ) from error

    def place(self, given: GivenSeries | None) -> Iterator[tuple[int, pa.Table]]:
        """Find series, position and place of every slice.

        A slice's place is its rank among the slices of its series by position, from 0; where
        positions are equal, by URI. A slice without a position has none.

        Args:
            given: the user's table of series; it alone decides then what it has columns for.

        Yields:
            For each part in which one of `PLACE_COLUMNS` is not what it should be, its number and
            these columns.
        """
        series, position = SAYS[given.says if given else None]
        join = f"LEFT JOIN read_parquet({quoted(given.file)}) AS given USING (uri)" if given else ""
        same = " AND ".join(f"{name} IS NOT DISTINCT FROM old.{name}" for name in PLACE_COLUMNS)
        self._database.execute(
            f"""
            CREATE OR REPLACE TABLE placed AS
            WITH named AS (
                SELECT slices.uri, slices.part, slices."row", {series} AS series_uid,
                    CAST({position} AS DOUBLE) AS position_mm,
                    struct_pack({", ".join(f"{n} := slices.{n}" for n in PLACE_COLUMNS)}) AS old
                FROM {self._rows} AS slices {join}
            ), ranked AS (
                SELECT part, "row", series_uid, position_mm, old,
                    CASE WHEN series_uid IS NOT NULL AND position_mm IS NOT NULL THEN
                        row_number() OVER (
                            PARTITION BY series_uid, position_mm IS NULL
                            ORDER BY position_mm DESC, uri
                        ) - 1
                    END AS slice_index
                FROM named
            )
            SELECT part, "row", {", ".join(PLACE_COLUMNS)}, {same} AS same FROM ranked
            """
        )
        changed = "SELECT DISTINCT part FROM placed WHERE NOT same ORDER BY part"
        for (part,) in self._database.execute(changed).fetchall():
            columns = self._database.sql(
                f'SELECT {", ".join(PLACE_COLUMNS)} FROM placed WHERE part = {part} ORDER BY "row"'
            ).to_arrow_table()
            yield part, columns

    def count_series(self) -> int:
        """Return how many series there are. Call after `place`."""
        return self._count("SELECT count(DISTINCT series_uid) FROM placed")

    def count_without_series(self) -> int:
        """Return how many slices are of no series. Call after `place`."""
        return self._count("SELECT count(*) - count(series_uid) FROM placed")

    def count_unmet(self, given: GivenSeries) -> int:
        """Return how many lines of a table of series name no slice."""
        return self._count(
            f"SELECT count(*) FROM read_parquet({quoted(given.file)}) AS given "
            f"ANTI JOIN {self._rows} AS slices USING (uri)"
        )

    def _count(self, query: str) -> int:
        ((number,),) = self._database.execute(query).fetchall()
        return int(number)

    def sorted(self, parts: int) -> Iterator[pa.Table]:
        """Yield the slices that are of a series, by the series' part, series and place.

        Args:
            parts: how many parts the series table has, see `part_of`.
        """
        of_part = f"CAST('0x' || substr(md5(series_uid), 1, 8) AS UBIGINT) % {parts}"
        if parts == 1:
            of_part = "CAST(0 AS UBIGINT)"  # and no hash of each row in each pass
        rows = self._count("SELECT count(series_uid) FROM placed")
        for some in passes(rows, parts):
            relation = self._database.sql(
                f"""
                SELECT * EXCLUDE (part, "row") FROM {self._rows}
                WHERE series_uid IS NOT NULL AND {of_part} BETWEEN {some.first} AND {some.last}
                    AND hash(series_uid) % {some.shares} = {some.share}
                ORDER BY {of_part}, series_uid, slice_index NULLS LAST, uri
                """
            )
            for batch in batches_of(relation, BATCH_ROWS):
                yield pa.Table.from_batches([batch])


@contextlib.contextmanager
def local_slices(folder: Path, memory_limit: str) -> Iterator[LocalSlices]:
    """Have an empty copy in a scratch folder until the block ends; see `sorting`."""
    with sorting(folder / "slices", memory_limit) as database:
        yield LocalSlices(folder / "slices", database)


@dataclass(frozen=True)
class Pass:
    """The series that are sorted together: those of some parts, or a share of those of one part."""

    first: int  # part
    last: int  # part
    share: int
    shares: int


def passes(rows: int, parts: int) -> Iterator[Pass]:
    """Divide series into passes of about `ROWS_PER_PASS` slices, in the order of their parts.

    Sorting takes memory that grows with the rows, though DuckDB spills them. Each pass reads the
    whole copy, 0.3 s for 10^6 slices.
    """
    wanted = max(1, math.ceil(rows / ROWS_PER_PASS))
    group, shares = max(1, parts // wanted), math.ceil(wanted / parts)
    for first in range(0, parts, group):
        for share in range(shares):
            yield Pass(first, min(first + group, parts) - 1, share, shares)


def part_of(series_uid: str, parts: int) -> int:
    """Return the number of the series part that a series is in, whichever others there are."""
    digest = hashlib.md5(series_uid.encode(), usedforsecurity=False).hexdigest()
    return int(digest[:8], 16) % parts


@dataclass(frozen=True)
class SeriesChunk:
    """Whole series, one after the other.

    Attributes:
        slices: rows of the slice table.
        left_out: how many further slices a series has, of one that has more than `most`.
    """

    slices: pa.Table
    left_out: dict[str, int]


def whole_series(tables: Iterable[pa.Table], rows: int, most: int) -> Iterator[SeriesChunk]:
    """Join tables that are sorted by series, and cut them where a series ends.

    Args:
        rows: a chunk has at least so many, but for the last one.
        most: slices of one series that are held. What follows is counted only, so that memory
            does not grow with a prefix whose slices all say they are of one series.
    """
    held: pa.Table | None = None
    left_out: dict[str, int] = {}
    for table in tables:
        if not table.num_rows:
            continue
        held = table if held is None else pa.concat_tables([held, table])
        last = held["series_uid"][-1]
        last_begins = pa.compute.index(held["series_uid"], last).as_py()
        if last_begins >= rows:
            yield SeriesChunk(held.slice(0, last_begins), left_out)
            held, left_out = held.slice(last_begins), {}
            last_begins = 0
        too_many = held.num_rows - last_begins - most
        if too_many > 0:
            name = last.as_py()
            left_out[name] = left_out.get(name, 0) + too_many
            held = held.slice(0, held.num_rows - too_many)
    if held is not None and held.num_rows:
        yield SeriesChunk(held, left_out)
