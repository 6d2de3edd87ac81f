"""Which slices show a lesion, where masks or boxes say so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.decoding.errors import ScanError
from model.decoding.scan_file import read_header
from steps.errors import StageError

MASKS = "masks"  # of data_ingestion: <sha256 of the scan>.png, for phantoms


def masked(data: Path, digests: Sequence[str]) -> NDArray[np.bool_]:
    """Return which scans of an ingested folder have a mask there (n,); phantoms have them.

    Args:
        data: what data_ingestion wrote.
        digests: SHA-256 of each scan, hexadecimal.
    """
    found = {file.stem for file in (data / MASKS).glob("*.png")}
    return np.array([digest in found for digest in digests], dtype=bool)


def marked(paths: Sequence[Path], lesions: Path) -> NDArray[np.bool_]:
    """Return which scans have a mask or a box in a folder (n,).

    Args:
        paths: of the scans.
        lesions: a folder, with folders in it or not, of masks (PNG, not zero on the lesion) and
            boxes (Pascal VOC XML, with an `object` for each). A file is called as the scan's SOP
            Instance UID, or as the scan's file where only one scan is called so, less the ending.

    Raises:
        StageError: there is no such folder, a file in it cannot be read, two are called the same,
            or none names a scan.
    """
    if not lesions.is_dir():
        raise StageError(f"Expected lesions to be a folder of masks or boxes. Received: {lesions}")
    files = [f for f in sorted(lesions.rglob("*")) if f.suffix.casefold() in (".png", ".xml")]
    twice = next((name for name, n in Counter(f.stem for f in files).items() if n > 1), None)
    if twice is not None:
        raise StageError(
            f"{lesions} holds two masks or boxes called {twice}. Expected one per scan: which scan "
            "they belong to is known by their names alone."
        )
    shown = {file.stem: _shows_lesion(file) for file in files}
    called = Counter(path.stem for path in paths)
    names = [_names(path, called[path.stem] == 1) for path in paths] if shown else []
    if not any(name in shown for of_one in names for name in of_one):
        raise StageError(
            f"None of the {len(shown)} masks and boxes in {lesions} belongs to one of the "
            f"{len(paths)} scans. Expected PNG or XML files that are called as a scan's SOP "
            "Instance UID or as its file."
        )
    return np.array([any(shown.get(name, False) for name in of_one) for of_one in names])


def _shows_lesion(file: Path) -> bool:
    try:
        if file.suffix.casefold() == ".png":
            with Image.open(file) as mask:
                return bool(np.asarray(mask).any())
        return ElementTree.parse(file).find("object") is not None  # noqa: S314  # the user's own
    except (OSError, ElementTree.ParseError) as error:
        raise StageError(
            f"{file} cannot be read as a mask or as boxes in Pascal VOC XML: {error}"
        ) from error


def _names(path: Path, unique: bool) -> list[str]:
    """Return what a mask or box of a scan may be called: as its file only if that is unique."""
    try:
        header = read_header(path.read_bytes())
    except ScanError:
        header = None
    uid = header.sop_instance_uid if header else ""
    return [name for name, holds in ((uid, bool(uid)), (path.stem, unique)) if holds]
