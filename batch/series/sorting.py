"""Sorting more rows than fit in memory, on this machine's disk.

DuckDB does it (docs/adr/0016-series-out-of-core.md). What it holds in memory is bounded; the rest
lies in a scratch folder.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from batch.faults import CannotRunError

if TYPE_CHECKING:
    import duckdb

# The first is enough for 10^6 slices. DuckDB needs some memory that grows with the number of rows,
# so what does not fit is done again with the next limit.
MEMORY_LIMITS = ("64MB", "512MB", "2GB")
THREADS = 2


class SortingMemoryError(CannotRunError):
    """The limit of memory is too low for so many rows."""


@contextlib.contextmanager
def sorting(folder: Path, memory_limit: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """Have a database that spills into a folder until the block ends.

    Raises:
        SortingMemoryError: it needs more memory than the limit.
        CannotRunError: it cannot go on for another reason, such as a full disk.
    """
    import duckdb

    folder.mkdir(parents=True, exist_ok=True)
    database = duckdb.connect(
        str(folder / "sorting.duckdb"),
        config={
            "memory_limit": memory_limit,
            "threads": THREADS,
            "temp_directory": str(folder / "spill"),
            "preserve_insertion_order": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        },
    )
    try:
        yield database
    except duckdb.OutOfMemoryException as error:
        raise SortingMemoryError(
            f"Sorting slices by series needs more than {memory_limit} of memory."
        ) from error
    except duckdb.Error as error:
        detail, where = " ".join(str(error).split())[:200].rstrip("."), tempfile.gettempdir()
        raise CannotRunError(
            f"Cannot sort slices by series ({detail}). Free space in {where} or set TMPDIR to a "
            "larger folder, then run the same command again."
        ) from error
    finally:
        database.close()


def batches_of(relation: duckdb.DuckDBPyRelation, rows: int) -> Iterator[pa.RecordBatch]:
    """Yield a query's result, some rows at a time.

    Raises:
        duckdb.Error: as if DuckDB itself were asked; Arrow calls its errors OSError.
    """
    import duckdb

    with relation.to_arrow_reader(batch_size=rows) as reader:
        while True:
            try:
                batch = reader.read_next_batch()
            except StopIteration:
                return
            except (OSError, pa.ArrowException) as error:
                is_memory = "Out of Memory" in str(error)
                kind = duckdb.OutOfMemoryException if is_memory else duckdb.Error
                raise kind(str(error)) from error
            yield batch


def quoted(path: Path | str) -> str:
    """Return a path as a text in SQL."""
    return "'" + str(path).replace("'", "''") + "'"
