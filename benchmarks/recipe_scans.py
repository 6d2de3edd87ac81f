"""The public collections that recipes are judged on: for benchmarks/recipe.py."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import zipfile
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from model.decoding.errors import ScanError
from model.decoding.scan_file import decode_grey
from scans.fingerprints import near_duplicate_groups, perceptual_hash, sha256_hex

ARCHIVES = {
    "zip": "Chest-CT-Scan-data.zip",
    "others": "Chest-CT-Scan-other-cancers.zip",
    "iq": "IQ-OTHNCCD-part.zip",
    "lungdx": "Lung-Dx.zip",
    "lidc": "LIDC-small.zip",
    "covid": "COVID-19-NY-SBU.zip",
}
JUDGED = ("zip", "others", "iq")
CALIBRATION = ("lungdx", "lidc")  # int8's ranges come from scans that no recipe is judged on
STRANGERS = ("lungdx", "lidc", "covid")  # whose grey levels may be lent: no direction scores them
DIRECTIONS = ("zip to iq", "iq to zip", "kaggle to iq", "iq to kaggle")
GROUP_DISTANCE_BITS = 40
SCAN_SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm")


@dataclasses.dataclass(frozen=True)
class Scan:
    """One distinct picture."""

    archive: str  # path of the zip
    source: str
    name: str  # of the file in its archive
    label: str  # the folder that it lay in
    sha256: str
    group: int  # of near-duplicates, over all sources

    @property
    def grey(self) -> NDArray[np.uint8]:
        """Return its grey levels (height, width); decoded once."""
        return _grey(self.archive, self.name)


@functools.cache
def _grey(archive: str, name: str) -> NDArray[np.uint8]:
    return decode_grey(_zip(archive).read(name))


@functools.cache
def _zip(archive: str) -> zipfile.ZipFile:
    return zipfile.ZipFile(archive)


def read_scans(data: Path, cache: Path) -> list[Scan]:
    """Find the distinct scans of the collections; what is no scan is left out, with a remark.

    Args:
        data: folder of the zips, see ARCHIVES; classes are folders in them.
        cache: folder that keeps what was found, for the same zips.
    """
    paths = {source: data / file for source, file in ARCHIVES.items()}
    digest = hashlib.sha256()
    for path in paths.values():
        digest.update(path.read_bytes())
    kept = cache / f"scans-{digest.hexdigest()[:16]}.npz"
    if not kept.is_file():
        _write(kept, paths)
    with np.load(kept) as arrays:
        columns = [arrays[name].tolist() for name in ("source", "name", "label", "sha256", "group")]
    return [Scan(str(paths[row[0]]), *row) for row in zip(*columns, strict=True)]


def _write(kept: Path, paths: dict[str, Path]) -> None:
    found: dict[str, tuple[str, str, str, str]] = {}
    hashes = []
    for source, path in paths.items():
        for name in sorted(_zip(str(path)).namelist()):
            if not name.lower().endswith(SCAN_SUFFIXES):
                continue
            sha256 = sha256_hex(_zip(str(path)).read(name))
            if sha256 in found:
                continue
            try:
                hashes.append(perceptual_hash(_grey(str(path), name)))
            except ScanError as error:
                click.echo(f"left out {name}: {error}", err=True)
                continue
            found[sha256] = (source, name, name.split("/")[-2], sha256)
    source, name, label, sha256 = (np.array(column) for column in zip(*found.values(), strict=True))
    group = np.array(near_duplicate_groups(hashes, GROUP_DISTANCE_BITS))
    np.savez(kept, source=source, name=name, label=label, sha256=sha256, group=group)


def is_judged(scan: Scan) -> bool:
    """Tell whether a scan takes part: no benign ones, and of the others the paired kernels."""
    judged = scan.source in JUDGED and scan.label != "benign"
    return judged or scan.label.startswith("kernel-B")


def directions(scans: Sequence[Scan]) -> list[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Return, by direction, which scans train and which are scored."""
    of = {name: np.array([scan.source == name for scan in scans]) for name in JUDGED}
    kaggle = of["zip"] | of["others"]
    return [(of["zip"], of["iq"]), (of["iq"], of["zip"]), (kaggle, of["iq"]), (of["iq"], kaggle)]


def kernel_pairs(scans: Sequence[Scan]) -> NDArray[np.intp]:
    """Return the positions of the same slice in two kernels, (pairs, 2)."""
    by_slice: dict[str, dict[str, int]] = {}
    for place, scan in enumerate(scans):
        if scan.label.startswith("kernel-B"):
            by_slice.setdefault(scan.name.split("/")[-1], {})[scan.label] = place
    both = [sorted(pair.items()) for pair in by_slice.values() if len(pair) == 2]
    return np.array([[place for _, place in pair] for pair in both], np.intp).reshape(-1, 2)
