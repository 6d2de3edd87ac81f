"""What earlier runs have already scored, at 30 bytes an object."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

# 16 bytes of a hash stand for an object. At 10^8 objects the chance that any two collide is about
# n^2 / 2^129 = 1.5e-23.
KEY = np.dtype("S16")


def key_of(uri: str) -> bytes:
    """Return the hash that stands for an object."""
    return blake2b(uri.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def version_of(etag: str, model_digest: str) -> int:
    """Return a hash of what a row was made from: content and model. Two differ when one changed.

    It is only ever compared with another version of the same object, so 8 bytes are plenty.
    """
    text = f"{etag}\0{model_digest}"
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


class DoneIndex:
    """Rows that the output already has: object, version, whether it failed, and which part.

    Memory: 16 + 8 + 4 + 1 + 1 = 30 bytes a row, in five sorted arrays; twice that while `freeze`
    sorts.
    """

    def __init__(self) -> None:
        self._batches: list[tuple[npt.NDArray[np.void], ...]] = []
        self.keys = np.empty(0, KEY)
        self.versions = np.empty(0, np.uint64)
        self.parts = np.empty(0, np.int32)
        self.failed = np.empty(0, np.bool_)
        self.seen = np.empty(0, np.bool_)

    def add(
        self, uris: Sequence[str], versions: Sequence[int], failed: Sequence[bool], part: int
    ) -> None:
        """Add the rows of one part. Call `freeze` after the last."""
        self._batches.append(
            (
                np.array([key_of(uri) for uri in uris], KEY),
                np.array(versions, np.uint64),
                np.full(len(uris), part, np.int32),
                np.array(failed, np.bool_),
            )
        )

    def freeze(self) -> None:
        """Sort, so that rows can be found."""
        if self._batches:
            keys, versions, parts, failed = (
                np.concatenate(column) for column in zip(*self._batches, strict=True)
            )
            self._batches = []
            order = np.argsort(keys, kind="stable")
            self.keys, self.versions = keys[order], versions[order]
            self.parts, self.failed = parts[order], failed[order]
        self.seen = np.zeros(len(self.keys), np.bool_)

    def __len__(self) -> int:
        return len(self.keys)

    def find(self, uris: Sequence[str]) -> npt.NDArray[np.int64]:
        """Return each object's row in the index, or -1."""
        if not len(self.keys):
            return np.full(len(uris), -1, np.int64)
        wanted = np.array([key_of(uri) for uri in uris], KEY)
        rows = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        return np.where(self.keys[rows] == wanted, rows, -1).astype(np.int64)

    def parts_of(self, uris: Sequence[str]) -> npt.NDArray[np.int64]:
        """Return the number of the part that holds each object's row, or -1."""
        rows = self.find(uris)
        return np.where(rows >= 0, self.parts[rows] if len(self) else -1, -1).astype(np.int64)


class KeySet:
    """The objects met so far, at 16 bytes each, to notice one that is listed twice."""

    RUNS = 8  # sorted runs before they are merged, so that adding n keys costs n log n

    def __init__(self) -> None:
        self._runs: list[npt.NDArray[np.bytes_]] = []

    def add(self, uris: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Add objects; return for each whether it is new."""
        keys = np.array([key_of(uri) for uri in uris], KEY)
        new = np.zeros(len(keys), np.bool_)
        new[np.unique(keys, return_index=True)[1]] = True
        for run in self._runs:
            rows = np.minimum(np.searchsorted(run, keys), len(run) - 1)
            new &= run[rows] != keys
        if new.any():
            self._runs.append(np.sort(keys[new]))
        if len(self._runs) > self.RUNS:
            self._runs = [np.sort(np.concatenate(self._runs))]
        return new
