"""The size of a table in CSV or Parquet, known before a table is built of it."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from typing import Any

from serve.http.errors import RefusalError
from serve.http.request_limits import MAX_COLUMNS
from serve.json_table import bad
from serve.parquet_pages import unpacked_sizes
from serve.scoring import too_many_rows

MAX_FOOTER_BYTES = 1024 * 1024  # of Parquet; a table of two columns has one of about 2 kB
MAX_PAGES = 10_000
PARQUET_MARK = b"PAR1"
# A quoted value of CSV starts right after a comma or a line's end; `""` is a quote within it.
QUOTED = re.compile(rb'(?<![^,\r\n])"[^"]*+(?:""[^"]*+)*+(?:"|\Z)')


def too_many_columns() -> RefusalError:
    """Return the refusal of a table with more columns than the model could ever read."""
    return bad(f"Expected one column 'image', and at most {MAX_COLUMNS} in all; received more.")


def check_csv(body: bytes, max_rows: int) -> None:
    """Check how many rows and columns CSV has, from its commas and ends of lines.

    Raises:
        RefusalError: 413 for too many rows, 400 for too many columns.
    """
    most_cells = (max_rows + 1) * MAX_COLUMNS
    if body.count(b'"') > 4 * most_cells:  # so that the search below is quick
        raise too_many_rows(max_rows, "received far more quotes than that")
    lines = QUOTED.sub(b"", body.removeprefix(codecs.BOM_UTF8)).replace(b"\r", b"\n")
    if lines.count(b"\n") > 4 * (max_rows + 1):
        raise too_many_rows(max_rows, "received more lines than that")
    while b"\n\n" in lines:  # empty lines are no rows
        lines = lines.replace(b"\n\n", b"\n")
    rows = lines.strip(b"\n").count(b"\n")
    if rows > max_rows:
        raise too_many_rows(max_rows, f"received {rows}")
    if lines.count(b",") > most_cells or lines.split(b"\n", 1)[0].count(b",") >= MAX_COLUMNS:
        raise too_many_columns()


def check_parquet(body: bytes, max_rows: int, max_bytes: int) -> None:
    """Check how many rows, columns and unpacked bytes a Parquet file has.

    Rows and columns stand at the end of the file. Pages are compressed, and values in them can be
    repeated, so the pages' sizes are added up, and then the values of one row after the other.

    Args:
        body: the file.
        max_rows: most rows.
        max_bytes: most bytes of all values together.

    Raises:
        RefusalError: 413 for too many rows or bytes, 400 for too many columns or a damaged file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    damaged = "Expected a Parquet file and one column 'image' of base64 text; "
    if len(body) < 12 or body[:4] != PARQUET_MARK or body[-4:] != PARQUET_MARK:
        raise bad(damaged + "this could not be read.")
    if int.from_bytes(body[-8:-4], "little") > MAX_FOOTER_BYTES:
        raise too_many_columns()
    try:
        file = pq.ParquetFile(io.BytesIO(body), pre_buffer=False)
        if file.metadata.num_columns > MAX_COLUMNS:
            raise too_many_columns()
        if any(
            column.max_repetition_level
            for column in map(file.schema.column, range(len(file.schema)))
        ):
            raise bad(damaged + "received a column of lists.")
        if file.metadata.num_rows > max_rows:
            raise too_many_rows(max_rows, f"received {file.metadata.num_rows}")
        check_unpacked(file, body, max_rows, max_bytes)
    except (pa.ArrowException, OSError, ValueError, IndexError, OverflowError) as error:
        raise bad(damaged + "this could not be read.") from error


def check_unpacked(file: Any, body: bytes, max_rows: int, max_bytes: int) -> None:
    """Look at the sizes of a file's pages, then unpack it row by row, within the limits."""
    size = 0
    for number, page_bytes in enumerate(page_sizes(file.metadata, body)):
        size += page_bytes
        if size > max_bytes or number >= MAX_PAGES:
            raise too_many_bytes(max_bytes)
    rows = size = 0
    for batch in file.iter_batches(batch_size=1, use_threads=False):
        rows += batch.num_rows
        size += batch.nbytes
        if rows > max_rows:
            raise too_many_rows(max_rows, "received more")
        if size > max_bytes:
            raise too_many_bytes(max_bytes)


def page_sizes(metadata: Any, body: bytes) -> Iterator[int]:
    """Yield the unpacked size of each page of a Parquet file."""
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for column in map(group.column, range(group.num_columns)):
            start = column.data_page_offset
            if column.has_dictionary_page:
                start = min(start, column.dictionary_page_offset)
            yield from unpacked_sizes(body, start, start + column.total_compressed_size)


def too_many_bytes(max_bytes: int) -> RefusalError:
    """Return the refusal of a Parquet file with more unpacked bytes than a request may have."""
    return RefusalError(
        413,
        "body_too_large",
        f"Expected at most {max_bytes / 2**20:g} MiB of unpacked values in a Parquet file and "
        "received more: send fewer scans at a time.",
    )
