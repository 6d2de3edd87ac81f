"""A data set as it is prepared on disk (all text is UTF-8 with a header line).

- `scans/<class>/<name>`: one file per distinct image, bytes unchanged.
- `manifest.csv`: one row per distinct image, see `scans.manifest.ManifestRow`.
- `rejected.csv`: `path,reason`, one row per file that could not be used.
- `series.csv`: one row per known series, see `scans.series.SeriesFacts`.
"""

from __future__ import annotations

import csv
import hashlib
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from scans.errors import changed
from scans.fingerprints import sha256_hex
from scans.listing import Rejected
from scans.manifest import ManifestRow, write_manifest
from scans.progress import progress
from scans.series import SeriesFacts, write_series
from scans.sharing import Sharing


@dataclass(frozen=True)
class Dataset:
    """What the sources hold.

    Attributes:
        rows: the manifest, ordered by class, series, position and path.
        origin: the file that each row's `path` is a copy of.
        rejected: files that cannot be used; with several sources, their paths begin with the name.
        files: number of files seen, rejected ones included.
        passed_over: number of files of the operating system, and hidden ones, not counted there.
        official_splits: whether the splits are the source's own.
        crossing_groups: groups found in two official splits, now wholly on the training side.
        series: one entry per known series.
        sharing: what two sources share, and which classes only one source has.
        warnings: sentences for a reader.
    """

    rows: list[ManifestRow]
    origin: dict[str, Path]
    rejected: list[Rejected]
    files: int
    passed_over: int
    official_splits: bool
    crossing_groups: list[str]
    series: list[SeriesFacts]
    sharing: Sharing
    warnings: list[str]


def write_dataset(dataset: Dataset, output: Path) -> None:
    """Copy the distinct scans and write `manifest.csv`, `rejected.csv` and `series.csv`.

    Raises:
        SourceError: a file is no longer what it was when it was inspected.
    """
    for folder in {(output / row.path).parent for row in dataset.rows}:
        folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        copies = pool.map(partial(_copy, dataset, output), dataset.rows)
        for _ in progress(copies, "Copying scans", "scan", len(dataset.rows)):
            pass
    for refused in dataset.rejected:
        if refused.seen:  # a file still being copied when it was read looks like one cut short
            refused.seen.check()
    write_manifest(dataset.rows, output)
    write_series(dataset.series, output)
    with (output / "rejected.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "reason"])
        # A name that is not UTF-8 is the very reason for some rejections.
        writer.writerows(
            (str(r.path).encode(errors="backslashreplace").decode(), r.reason)
            for r in dataset.rejected
        )


def _copy(dataset: Dataset, output: Path, row: ManifestRow) -> None:
    """Copy a scan and check that it is still the one that was inspected."""
    origin, target = dataset.origin[row.path], output / row.path
    try:
        shutil.copyfile(origin, target)
    except FileNotFoundError as e:
        raise changed(origin) from e
    with target.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != row.sha256:
            raise changed(origin)


def data_digest(rows: Sequence[ManifestRow]) -> str:
    """Return the SHA-256 over the sorted lines `sha256,label,split`, each ended by a newline."""
    lines = sorted(f"{row.sha256},{row.label},{row.split}\n" for row in rows)
    return sha256_hex("".join(lines).encode())
