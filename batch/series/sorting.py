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

from batch.faults import CannotRunError

if TYPE_CHECKING:
    import duckdb

MEMORY_LIMIT = "64MB"
THREADS = 2


@contextlib.contextmanager
def sorting(folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Have a database that spills into a folder until the block ends."""
    import duckdb

    folder.mkdir(parents=True, exist_ok=True)
    database = duckdb.connect(
        str(folder / "sorting.duckdb"),
        config={
            "memory_limit": MEMORY_LIMIT,
            "threads": THREADS,
            "temp_directory": str(folder / "spill"),
            "preserve_insertion_order": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        },
    )
    try:
        yield database
    except duckdb.Error as error:
        detail, where = " ".join(str(error).split())[:200].rstrip("."), tempfile.gettempdir()
        raise CannotRunError(
            f"Cannot sort slices by series ({detail}). Free space in {where} or set TMPDIR to a "
            "larger folder, then run the same command again."
        ) from error
    finally:
        database.close()


def quoted(path: Path | str) -> str:
    """Return a path as a text in SQL."""
    return "'" + str(path).replace("'", "''") + "'"
