"""What earlier runs have already scored, on this machine's disk.

SQLite keeps it in temporary files that have no name, so a killed job leaves none behind
(docs/adr/0018-index-on-disk.md). What is held in memory is a bit a row and SQLite's cache.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from batch.faults import CannotRunError

# 16 bytes of a hash stand for an object. At 10^8 objects the chance that any two collide is about
# n^2 / 2^129 = 1.5e-23.
KEY_BYTES = 16
CACHE_KIB = 1024
KEYS_PER_QUERY = 1000  # a page of the listing; SQLite allows 32,766
FIND = "SELECT key, row, version, failed FROM done WHERE key IN"


def key_of(uri: str) -> bytes:
    """Return the hash that stands for an object."""
    return blake2b(uri.encode("utf-8", "surrogatepass"), digest_size=KEY_BYTES).digest()


def version_of(etag: str, model_digest: str) -> int:
    """Return a hash of what a row was made from: content and model. Two differ when one changed.

    It is only ever compared with another version of the same object, so 8 bytes are plenty: a
    signed 64-bit number.
    """
    text = f"{etag}\0{model_digest}"
    digest = blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


class _Temporary:
    """A database in nameless files, gone when this object is. Safe to use from several threads."""

    def __init__(self, *statements: str) -> None:
        """Open it and run some statements."""
        self._lock = threading.Lock()
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        weakref.finalize(self, self._database.close)
        with self.open() as database:
            database.execute("PRAGMA journal_mode = OFF")  # nothing is ever rolled back
            database.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            for statement in statements:
                database.execute(statement)

    @contextlib.contextmanager
    def open(self) -> Iterator[sqlite3.Connection]:
        """Have the database to oneself, in one transaction.

        Raises:
            CannotRunError: the disk is full, or fails.
        """
        try:
            with self._lock:
                self._database.execute("BEGIN")
                yield self._database
                self._database.execute("COMMIT")
        except sqlite3.Error as error:
            raise CannotRunError(
                f"Cannot keep the index of what is scored on this machine's disk ({error}). Free "
                "space in the temporary folder (TMPDIR, else /var/tmp) or set TMPDIR to a larger "
                "one, then run the same command again."
            ) from error


@dataclass(frozen=True)
class Found:
    """What the index says of some objects, an element each.

    Attributes:
        rows: its row in the index, -1 for an object that has none.
        versions: what that row was made from, see `version_of`.
        failed: whether that row has an error.
    """

    rows: npt.NDArray[np.int64]
    versions: npt.NDArray[np.int64]
    failed: npt.NDArray[np.bool_]


class DoneIndex:
    """Rows that the output already has: object, version, whether it failed, and which part.

    Rows are numbered from 0 as they are added, so those of a part follow one another.
    """

    def __init__(self) -> None:
        self._rows = _Temporary(
            "CREATE TABLE done (row INTEGER PRIMARY KEY, key BLOB, version INTEGER, failed INTEGER)"
        )
        self._parts: list[int] = []
        self._ends: list[int] = []  # the row behind the last of each part
        self._seen = np.empty(0, np.uint8)  # a bit a row

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def add(
        self, uris: Sequence[str], versions: Sequence[int], failed: Sequence[bool], part: int
    ) -> None:
        """Add the rows of one part. Call `freeze` after the last."""
        numbers = range(len(self), len(self) + len(uris))
        keys = (key_of(uri) for uri in uris)
        with self._rows.open() as database:
            database.executemany(
                "INSERT INTO done VALUES (?, ?, ?, ?)",
                zip(numbers, keys, versions, failed, strict=True),
            )
        self._parts.append(part)
        self._ends.append(numbers.stop)

    def freeze(self) -> None:
        """Sort, so that rows can be found."""
        with self._rows.open() as database:
            database.execute("CREATE INDEX by_key ON done (key, version, failed)")
        self._seen = np.zeros((len(self) + 7) // 8, np.uint8)

    def find(self, uris: Sequence[str]) -> Found:
        """Look objects up."""
        found = Found(
            np.full(len(uris), -1, np.int64),
            np.zeros(len(uris), np.int64),
            np.zeros(len(uris), np.bool_),
        )
        if not len(self):
            return found
        keys = [key_of(uri) for uri in uris]
        rows: dict[bytes, list[int]] = {}
        for start in range(0, len(keys), KEYS_PER_QUERY):
            some = keys[start : start + KEYS_PER_QUERY]
            with self._rows.open() as database:
                marks = ",".join("?" * len(some))
                # Of two rows of one object, which only a fault can leave, the first is found.
                query = f"{FIND} ({marks}) ORDER BY row DESC"
                rows |= {key: rest for key, *rest in database.execute(query, some)}
        for place, key in enumerate(keys):
            if key in rows:
                found.rows[place], found.versions[place], found.failed[place] = rows[key]
        return found

    def parts_of(self, uris: Sequence[str]) -> npt.NDArray[np.int64]:
        """Return the number of the part that holds each object's row, or -1."""
        rows = self.find(uris).rows
        if not len(self):
            return rows
        parts = np.array(self._parts)[np.searchsorted(self._ends, np.maximum(rows, 0), "right")]
        return np.where(rows >= 0, parts, -1)

    def mark_seen(self, rows: npt.NDArray[np.int64]) -> None:
        """Note that the objects of some rows are listed."""
        np.bitwise_or.at(self._seen, rows >> 3, np.left_shift(1, rows & 7).astype(np.uint8))

    def is_seen(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Return for each of some rows whether its object is listed."""
        bits: npt.NDArray[np.uint8] = self._seen[rows >> 3] >> (rows & 7).astype(np.uint8) & 1
        return bits.astype(np.bool_)

    def count_unseen(self) -> int:
        """Return how many rows are of objects that are not listed."""
        return len(self) - int.from_bytes(self._seen.tobytes(), "little").bit_count()

    def unseen(self) -> Iterator[tuple[int, set[bytes]]]:
        """Yield the parts that have rows of objects that are not listed, with the keys of these."""
        for part, begin, end in zip(self._parts, [0, *self._ends], self._ends, strict=False):
            seen = self.is_seen(np.arange(begin, end))
            if not seen.all():
                with self._rows.open() as database:
                    query = "SELECT row, key FROM done WHERE row >= ? AND row < ?"
                    rows = database.execute(query, (begin, end)).fetchall()
                yield part, {key for row, key in rows if not seen[row - begin]}


class KeySet:
    """The objects met so far, on disk, to notice one that is listed twice."""

    def __init__(self) -> None:
        self._met = _Temporary("CREATE TABLE met (key BLOB PRIMARY KEY) WITHOUT ROWID")

    def add(self, uris: Sequence[str]) -> list[bool]:
        """Add objects; return for each whether it is new."""
        with self._met.open() as database:
            insert = "INSERT OR IGNORE INTO met VALUES (?)"
            return [database.execute(insert, (key_of(uri),)).rowcount == 1 for uri in uris]
