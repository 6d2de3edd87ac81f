"""A data set as it is prepared on disk (all text is UTF-8 with a header line).

- `scans/<class>/<name>`: one file per distinct image, bytes unchanged.
- `manifest.csv`: one row per distinct image, see `scans.manifest.ManifestRow`.
- `rejected.csv`: `path,reason`, one row per file that could not be used.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from scans.fingerprints import sha256_hex
from scans.inspection import Rejected
from scans.manifest import ManifestRow, write_manifest


@dataclass(frozen=True)
class Dataset:
    """What a source holds.

    Attributes:
        folder: where the source's files are.
        rows: the manifest, ordered by class and path.
        origin: the file in `folder` that each row's `path` is a copy of.
        rejected: files that cannot be used.
        files: number of files seen, rejected ones included.
        official_splits: whether the splits are the source's own.
        crossing_groups: groups found in two official splits, now wholly on the training side.
    """

    folder: Path
    rows: list[ManifestRow]
    origin: dict[str, PurePosixPath]
    rejected: list[Rejected]
    files: int
    official_splits: bool
    crossing_groups: list[str]


def write_dataset(dataset: Dataset, output: Path) -> None:
    """Copy the distinct scans and write `manifest.csv` and `rejected.csv` into a folder."""
    for row in dataset.rows:
        target = output / row.path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(dataset.folder / dataset.origin[row.path], target)
    write_manifest(dataset.rows, output)
    with (output / "rejected.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "reason"])
        # A name that is not UTF-8 is the very reason for some rejections.
        writer.writerows(
            (str(r.path).encode(errors="backslashreplace").decode(), r.reason)
            for r in dataset.rejected
        )


def data_digest(rows: Sequence[ManifestRow]) -> str:
    """Return the SHA-256 over the sorted lines `sha256,label,split`, each ended by a newline."""
    lines = sorted(f"{row.sha256},{row.label},{row.split}\n" for row in rows)
    return sha256_hex("".join(lines).encode())
