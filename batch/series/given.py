"""The table of series that the user gives: which slice belongs to which series, and where.

Pictures do not say of which series they are, so for them a CSV file does: `uri` or `path` (below
the input), `series`, and optionally `position_mm`.
"""

# ruff: noqa: S608 - what is put into SQL are names of columns and quoted paths

from __future__ import annotations

import contextlib
import csv
import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from batch.faults import CannotRunError, is_s3_fault, s3_sentence
from batch.locations import Access, Location, make_client
from batch.scratch import scratch_folder
from batch.series.sorting import MEMORY_LIMITS, quoted, sorting

LINES = 10_000  # that are held at once
EXPECTED = "Expected CSV with the columns `uri` or `path`, `series` and, if known, `position_mm`."
SCHEMA = pa.schema(
    [
        pa.field("uri", pa.string()),
        pa.field("series", pa.string()),
        pa.field("position_mm", pa.float64()),
        pa.field("line", pa.int64()),
    ]
)


@dataclass(frozen=True)
class GivenSeries:
    """A table of series that has been checked.

    Attributes:
        file: Parquet with the columns uri, series, position_mm; each object in at most one row.
        says: which columns of slices it decides: `series`, or `series and position_mm`.
        digest: of the user's file.
        lines: how many objects it names.
    """

    file: Path
    says: str
    digest: str
    lines: int


@contextlib.contextmanager
def given_series(
    source: str | None, location: Location, access: Access
) -> Iterator[GivenSeries | None]:
    """Have a table of series, if one is given, until the block ends; see `read_given`."""
    if source is None:
        yield None
        return
    with scratch_folder("given") as folder:
        yield read_given(source, location, access, folder)


def read_given(source: str, location: Location, access: Access, folder: Path) -> GivenSeries:
    """Read and check a table of series, a few thousand lines at a time.

    Args:
        source: a CSV file, local or on S3.
        location: the input, which paths lie below.
        folder: gets the Parquet file.

    Raises:
        CannotRunError: it cannot be read, a line is wrong, or two lines contradict each other.
    """
    path = _local(source, access, folder)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _checked(source, path, file, location, folder)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CannotRunError(
            f"Cannot read the table of series {source} ({type(error).__name__}: {error}). "
            f"{EXPECTED} Check --series-table."
        ) from error


def _checked(
    source: str, path: Path, file: IO[str], location: Location, folder: Path
) -> GivenSeries:
    rows = csv.reader(file)
    header = [name.strip().lower() for name in next(rows, [])]
    if "series" not in header or len({"uri", "path"} & set(header)) != 1:
        raise CannotRunError(
            f"The table of series {source} has the columns {', '.join(header) or '(none)'}. "
            f"{EXPECTED}"
        )
    made = folder / "given.parquet"
    entries = (
        _entry(dict(zip(header, row, strict=False)), f"Line {rows.line_num} of {source}", location)
        | {"line": rows.line_num}
        for row in rows
        if any(row)
    )
    with pq.ParquetWriter(made, SCHEMA) as writer:
        while some := list(islice(entries, LINES)):
            writer.write_table(pa.Table.from_pylist(some, SCHEMA))
    lines = _one_row_each(source, made, folder)
    with path.open("rb") as whole:
        digest = hashlib.file_digest(whole, "sha256").hexdigest()
    says = "series and position_mm" if "position_mm" in header else "series"
    return GivenSeries(made, says, digest, lines)


def _entry(line: dict[str, str], where: str, location: Location) -> dict[str, str | float | None]:
    """Check one line."""
    series, position = line.get("series", "").strip(), line.get("position_mm", "").strip()
    if not series:
        raise CannotRunError(f"{where} names no series. {EXPECTED}")
    try:
        position_mm = float(position) if position else None
    except ValueError:
        position_mm = math.nan
    if position_mm is not None and not math.isfinite(position_mm):
        raise CannotRunError(
            f"{where}: expected a number of millimetres in `position_mm`, or nothing; received "
            f"{position[:40]!r}."
        )
    return {"uri": _uri(line, where, location), "series": series, "position_mm": position_mm}


def _uri(line: dict[str, str], where: str, location: Location) -> str:
    """Return the object's URI as the listing has it."""
    if "uri" in line:
        if not line["uri"].startswith(("s3://", "file://")):
            raise CannotRunError(
                f"{where}: expected a `uri` that begins with s3:// or file://, as in the column "
                f"`uri` of the results; received {line['uri'][:80]!r}. Names below INPUT go into a "
                "column `path`."
            )
        return line["uri"]
    path = line.get("path", "")
    if not path:
        raise CannotRunError(f"{where} names no object. {EXPECTED}")
    return location.uri + path if location.bucket else Path(location.path, path).as_uri()


def _one_row_each(source: str, made: Path, folder: Path) -> int:
    """Drop lines that repeat another; return how many are left.

    Raises:
        CannotRunError: two lines say different things of one object.
    """
    rows = f"read_parquet({quoted(made)})"
    once = made.with_suffix(".once")
    with sorting(folder / "given", MEMORY_LIMITS[1]) as database:
        twice = database.sql(
            f"SELECT min(line), max(line) FROM {rows} GROUP BY uri "
            "HAVING count(DISTINCT (series, position_mm)) > 1 ORDER BY 1 LIMIT 1"
        ).fetchall()
        for first, second in twice:
            raise CannotRunError(
                f"Lines {first} and {second} of {source} say different things of one slice. "
                "Remove one of them."
            )
        database.execute(
            "COPY (SELECT uri, any_value(series) AS series, any_value(position_mm) AS position_mm "
            f"FROM {rows} GROUP BY uri) TO {quoted(once)} (FORMAT parquet)"
        )
    once.replace(made)
    return int(pq.ParquetFile(made).metadata.num_rows)


def _local(source: str, access: Access, folder: Path) -> Path:
    if not source.startswith("s3://"):
        return Path(source)
    bucket, _, key = source.removeprefix("s3://").partition("/")
    path = folder / "given.csv"
    try:
        client = make_client(access, signed=not access.no_sign_request)
        client.download_file(bucket, key, str(path))
    except Exception as error:
        if is_s3_fault(error):
            raise CannotRunError(s3_sentence(error, f"read {source}")) from error
        raise
    return path
