"""The journal: rows that are durable and wait to be moved into a part."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from itertools import count
from typing import Any

import pyarrow as pa

from batch.faults import CannotRunError
from batch.store.stores import Store
from batch.table.parts import decode, encode, to_table

JOURNAL = "_journal/"
DIGEST_IN_NAME = re.compile(r"-([0-9a-f]{16})\.parquet")
Adopt = Callable[[str, pa.Table], None]


class Journal:
    """Writes segments. Each has a name of its own, which ends in a digest of its content."""

    def __init__(self, store: Store, prefix: str, schema: pa.Schema, adopt: Adopt) -> None:
        """Open the journal; nothing is written yet.

        Args:
            prefix: of the names; unique to this run (and, on Spark, to this attempt of a task).
            adopt: gets each segment's name and rows once they are durable.
        """
        self._store, self._prefix, self._schema, self._adopt = store, prefix, schema, adopt
        self._numbers = count()

    def write(self, rows: list[dict[str, Any]]) -> None:
        """Make rows durable, whole or not at all."""
        table = to_table(rows, self._schema)
        data = encode(table, "parquet")
        digest = hashlib.sha256(data).hexdigest()[:16]
        name = f"{JOURNAL}{self._prefix}-{next(self._numbers):06d}-{digest}.parquet"
        self._store.write(name, data)
        self._adopt(name, table)


def read_segment(store: Store, name: str, schema: pa.Schema) -> pa.Table:
    """Read a segment that a `Journal` wrote.

    Raises:
        CannotRunError: it is damaged.
    """
    data, _tag = store.read(name)
    expected = DIGEST_IN_NAME.search(name)
    try:
        if expected and hashlib.sha256(data).hexdigest()[:16] != expected[1]:
            raise OSError("its content does not have the digest in its name")
        return decode(data, "parquet", schema)
    except (pa.ArrowException, OSError) as error:
        raise CannotRunError(
            f"{store.uri}{name} is damaged. Delete it and run the same command again: its objects "
            "are then scored again."
        ) from error
