"""The parts as files: written whole, and checked against a digest whenever one is read.

A part's digest stands in a file of its own, `_digests/part-00000.parquet`, which is written before
the part. So that a kill between the two does no harm, it lists the digest of the part that is there
as well as that of the part to come.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from batch.faults import CannotRunError, LockLostError
from batch.store.stores import ConflictError, Store
from batch.table.parts import conform, decode, encode, part_name, part_names

DIGESTS = "_digests/"
READ_AHEAD = 8  # files


class PartFiles:
    """The parts of one output, by their numbers.

    `digests` has the digest of each part as it was last read or written.
    """

    def __init__(self, store: Store, file_format: str, schema: pa.Schema) -> None:
        """Take where they are and what they hold; nothing is read yet."""
        self.store, self.format, self.schema = store, file_format, schema
        self.digests: dict[int, str] = {}

    def numbers(self, names: Iterable[str]) -> list[int]:
        """Return the numbers of the parts among an output's names, ascending."""
        return [int(name[5:].partition(".")[0]) for name in part_names(names, self.format)]

    def name(self, number: int) -> str:
        """Return a part's name."""
        return part_name(number, self.format)

    def read(self, numbers: list[int]) -> Iterator[pa.Table]:
        """Yield the rows of parts, a few of them in memory at a time.

        Raises:
            CannotRunError: one is damaged.
        """
        with ThreadPoolExecutor(READ_AHEAD) as pool:
            for start in range(0, len(numbers), READ_AHEAD):
                some = numbers[start : start + READ_AHEAD]
                yield from (table for table, _data, _tag in pool.map(self._read, some))

    def create(self, number: int, table: pa.Table) -> None:
        """Write a new part."""
        self._write(number, table, "absent", [])

    def rewrite(self, number: int, change: Callable[[pa.Table], pa.Table]) -> None:
        """Replace a part by what `change` makes of its rows."""
        table, data, tag = self._read(number)
        self._write(number, change(table), tag, [_digest(data)])

    def _read(self, number: int) -> tuple[pa.Table, bytes, str]:
        name = self.name(number)
        data, tag = self.store.read(name)
        expected, _tag = self._digests(name)
        digest = self.digests[number] = _digest(data)
        try:
            if expected and digest not in expected:
                raise OSError("its content does not have the digest that was recorded")
            return decode(data, self.format, self.schema), data, tag
        except (pa.ArrowException, OSError) as error:
            raise CannotRunError(
                f"{self.store.uri}{name} is damaged: it is not the {self.format} file that this "
                f"job wrote. Restore it, or delete it and {DIGESTS}{name}, and run the same "
                "command again (its objects are then scored again); or add --overwrite to start "
                "anew."
            ) from error

    def _digests(self, name: str) -> tuple[list[str], str]:
        """Return the digests that a part may have (none for one of an earlier release)."""
        try:
            data, tag = self.store.read(DIGESTS + name)
        except FileNotFoundError:
            return [], "absent"
        return data.decode("ascii", "replace").split(), tag

    def _write(self, number: int, table: pa.Table, only_if: str, there: list[str]) -> None:
        name = self.name(number)
        data = encode(conform(table, self.schema), self.format)
        try:
            _expected, digests_tag = self._digests(name)
            digest = _digest(data)
            lines = "".join(f"{one}\n" for one in [digest, *there])
            self.store.write(DIGESTS + name, lines.encode(), only_if=digests_tag)
            self.store.write(name, data, only_if=only_if)
            self.digests[number] = digest
        except ConflictError as error:
            raise LockLostError(
                f"{self.store.uri}{name} was changed by another job; this one has stopped. Nothing "
                "is lost: run the same command again when the other has ended."
            ) from error


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
