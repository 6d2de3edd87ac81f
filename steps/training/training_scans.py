"""Fingerprints of the scans that a model was made from. They travel with it, without pixels.

An external evaluation leaves out what the model has seen: the same bytes, near-duplicates, and
other scans of the same patients.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.decoding.scan_file import decode_grey
from scans.fingerprints import perceptual_hash
from scans.manifest import ManifestRow

FILE = "training_scans.npz"  # in the folder of the saved model
DEFAULT_DISTANCE_BITS = 40  # of data sets that do not say how near-duplicates were joined


@dataclasses.dataclass(frozen=True)
class TrainingScans:
    """What identifies each distinct scan of a model's data set, whatever its split."""

    sha256: NDArray[np.str_]  # of the file's bytes (n,)
    perceptual: NDArray[np.uint8]  # 256-bit hashes, see scans.fingerprints (n, 32)
    patient: NDArray[np.str_]  # keyed hash of the patient, "" where unknown (n,)
    group_distance_bits: int  # largest distance of two hashes that are near-duplicates

    def write(self, path: Path) -> None:
        """Write the fingerprints as compressed arrays."""
        np.savez_compressed(path, **dataclasses.asdict(self))

    @classmethod
    def read(cls, path: Path) -> TrainingScans:
        """Read what `write` wrote.

        Raises:
            FileNotFoundError: there is no such file.
        """
        with np.load(path, allow_pickle=False) as arrays:
            return cls(
                arrays["sha256"],
                arrays["perceptual"],
                arrays["patient"],
                int(arrays["group_distance_bits"]),
            )


def training_scans(
    data: Path, rows: Sequence[ManifestRow], group_distance_bits: int | None
) -> TrainingScans:
    """Fingerprint the scans of a data set.

    Args:
        data: folder of the manifest.
        rows: all its scans.
        group_distance_bits: what its near-duplicates were joined with; None where unknown.
    """
    with ThreadPoolExecutor(thread_name_prefix="fingerprint") as pool:
        hashes = list(
            pool.map(lambda row: perceptual_hash(decode_grey((data / row.path).read_bytes())), rows)
        )
    return TrainingScans(
        sha256=np.array([row.sha256 for row in rows], dtype=np.str_),
        perceptual=np.frombuffer(b"".join(hashes), dtype=np.uint8).reshape(len(rows), -1),
        patient=np.array([getattr(row, "patient", None) or "" for row in rows], dtype=np.str_),
        group_distance_bits=(
            DEFAULT_DISTANCE_BITS if group_distance_bits is None else group_distance_bits
        ),
    )
