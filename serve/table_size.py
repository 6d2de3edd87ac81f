"""The size of a table in CSV or Parquet, known before a table is built of it."""

from __future__ import annotations

import codecs
import io
import re

import pyarrow as pa
import pyarrow.parquet as pq

from serve.http.errors import RefusalError
from serve.http.request_limits import MAX_COLUMNS
from serve.json_table import bad
from serve.parquet_sizes import Footer, page_sizes, read_footer
from serve.scoring import too_many_rows

MAX_FOOTER_BYTES = 1024 * 1024  # of Parquet; a table of two columns has one of about 2 kB
MAX_PAGES = 10_000
PARQUET = "Expected a Parquet file and one column 'image' of base64 text"
DAMAGED = (
    pa.ArrowException, OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError,
)  # fmt: skip
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


def check_parquet(body: bytes, max_rows: int, max_bytes: int) -> bytes:
    """Check how many rows, columns and unpacked bytes a Parquet file has, and write it anew.

    Rows and columns stand at the end of the file. Pages are compressed, and values in them can be
    repeated, so the pages' sizes are added up, and then the values of one row after the other.
    What is returned was written here, and can be read in any way.

    Args:
        body: the file.
        max_rows: most rows.
        max_bytes: most bytes of all values together.

    Raises:
        RefusalError: 413 for too many rows or bytes, 400 for too many columns or a damaged file.
    """
    try:
        footer = read_footer(body, MAX_FOOTER_BYTES)
        check_footer(footer, max_rows)
        check_pages(body, footer, max_bytes)
        return written_anew(body, max_rows, max_bytes)
    except DAMAGED as error:
        raise bad(f"{PARQUET}; this could not be read.") from error


def check_footer(footer: Footer, max_rows: int) -> None:
    """Check rows and columns as the footer says them."""
    if footer.columns > MAX_COLUMNS:
        raise too_many_columns()
    if not footer.flat:
        raise bad(f"{PARQUET}; received a column of lists.")
    if footer.rows > max_rows:
        raise too_many_rows(max_rows, f"received {footer.rows}")


def check_pages(body: bytes, footer: Footer, max_bytes: int) -> None:
    """Check the unpacked size of all pages together."""
    size = 0
    for number, page_bytes in enumerate(page_sizes(body, footer)):
        size += page_bytes
        if size > max_bytes or number >= MAX_PAGES:
            raise too_many_bytes(max_bytes)


def written_anew(body: bytes, max_rows: int, max_bytes: int) -> bytes:
    """Return the same table in a file of our own, after reading it row by row."""
    rows = size = 0
    batches = []
    file = pq.ParquetFile(io.BytesIO(body), pre_buffer=False)
    for batch in file.iter_batches(batch_size=1, use_threads=False):
        rows += batch.num_rows
        size += batch.nbytes
        if rows > max_rows:
            raise too_many_rows(max_rows, "received more")
        if size > max_bytes:
            raise too_many_bytes(max_bytes)
        batches.append(batch)
    whole = io.BytesIO()
    pq.write_table(pa.Table.from_batches(batches, file.schema_arrow), whole, compression="NONE")
    return whole.getvalue()


def too_many_bytes(max_bytes: int) -> RefusalError:
    """Return the refusal of a Parquet file with more unpacked bytes than a request may have."""
    return RefusalError(
        413,
        "body_too_large",
        f"Expected at most {max_bytes / 2**20:g} MiB of unpacked values in a Parquet file and "
        "received more: send fewer scans at a time.",
    )
