"""Scans and their augmented views through the prepared base, each once."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from model.decoding.scan_file import decode_grey
from model.features import feature_vectors
from model.runtime import Runtime
from scans.manifest import ManifestRow
from steps.base import Base
from steps.training.augmentation import Augmentation, Donors, scan_and_views

FEATURES = "features.npz"


@dataclasses.dataclass(frozen=True)
class FeatureSet:
    """Features of scans, in the order of `sha256`."""

    sha256: tuple[str, ...]
    vectors: NDArray[np.float32]  # (scans, 1 + views, features): the scan itself, then its views
    key: str  # what the vectors depend on besides the scans


def views_of_scan(
    data: Path, row: ManifestRow, base: Base, settings: Augmentation, donors: Donors, seed: int
) -> NDArray[np.uint8]:
    """Decode a scan and draw its views; they do not depend on the order of the scans.

    Returns:
        RGB (1 + settings.views, side, side, 3): the scan itself first.
    """
    rng = np.random.default_rng([seed, int(row.sha256[:15], 16)])
    grey = decode_grey((data / row.path).read_bytes())
    return scan_and_views(grey, base.preprocessing, settings, donors, rng)


def training_donors(data: Path, rows: Sequence[ManifestRow]) -> Donors:
    """Read the grey-level distributions of the training scans among `rows`."""
    return Donors(
        (row.label, decode_grey((data / row.path).read_bytes()))
        for row in rows
        if row.split == "train"
    )


def scan_features(
    data: Path,
    rows: Sequence[ManifestRow],
    base: Base,
    settings: Augmentation,
    seed: int,
    cache: Path | None = None,
) -> FeatureSet:
    """Compute the features of scans and their views, with a progress bar.

    Args:
        data: folder of the manifest.
        rows: the scans; the training scans among them lend their tones to the views.
        base: the prepared base.
        settings: the views.
        seed: of the views.
        cache: a file that `write_features` wrote; what it holds for the same base, settings and
            seed is not computed again.
    """
    key = _key(base, settings, seed, rows)
    known = _read_known(cache, key) if cache else {}
    missing = [row for row in rows if row.sha256 not in known]
    if missing:
        runtime = Runtime(base.network, base.precision)
        donors = training_donors(data, rows)
        for row in tqdm(missing, desc="features", unit="scan", mininterval=1):
            views = views_of_scan(data, row, base, settings, donors, seed)
            known[row.sha256] = feature_vectors(np.concatenate(list(_maps(runtime, views))))
    order = tuple(row.sha256 for row in rows)
    return FeatureSet(order, np.stack([known[sha256] for sha256 in order]), key)


def write_features(features: FeatureSet, folder: Path) -> None:
    """Write features for later runs and for the evaluation."""
    np.savez(
        folder / FEATURES,
        key=np.array(features.key),
        sha256=np.array(features.sha256),
        vectors=features.vectors,
    )


def read_features(folder: Path) -> FeatureSet:
    """Read what `write_features` wrote into a folder.

    Raises:
        OSError, ValueError, KeyError, zipfile.BadZipFile: it is missing, cut short, or of another
            layout.
    """
    path = folder / FEATURES
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        order = tuple(str(sha256) for sha256 in arrays["sha256"])
        return FeatureSet(order, arrays["vectors"], str(arrays["key"]))


def _maps(runtime: Runtime, views: NDArray[np.uint8]) -> Iterator[NDArray[np.float32]]:
    for start in range(0, len(views), 16):
        yield runtime(views[start : start + 16])


def _read_known(cache: Path, key: str) -> dict[str, NDArray[np.float32]]:
    if not (cache / FEATURES).is_file():
        return {}
    try:
        earlier = read_features(cache)
    except (
        OSError,
        ValueError,
        KeyError,
        zipfile.BadZipFile,
    ):  # cut short by a kill: compute again
        return {}
    if earlier.key != key:
        return {}
    return dict(zip(earlier.sha256, earlier.vectors, strict=True))


def _key(base: Base, settings: Augmentation, seed: int, rows: Sequence[ManifestRow]) -> str:
    weights = base.network.with_suffix(".bin").read_bytes()
    parts = {
        "graph": hashlib.sha256(base.network.read_bytes()).hexdigest(),
        "weights": hashlib.sha256(weights).hexdigest(),
        "precision": base.precision,
        "preprocessing": dataclasses.asdict(base.preprocessing),
        "augmentation": dataclasses.asdict(settings),
        "seed": seed,
        "donors": sorted(row.sha256 for row in rows if row.split == "train"),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
