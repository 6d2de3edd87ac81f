"""Which distance from the training scans tells chest CT from other pictures?

Reads what a pipeline's training kept, fits each measure as model/out_of_domain.py fits its own (the
distance of training scans from other groups, its quantile and the margin), and counts what would be
flagged of chest CT from elsewhere and of what is none.

    python -m benchmarks.out_of_domain_measures --collections folder-of-zips
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.odd_pictures import scikit_image_pictures, slices_by_region
from model.artefact import NETWORK, Card
from model.decoding.errors import ScanError
from model.features import feature_vectors
from model.out_of_domain import MARGIN, NEIGHBOURS
from model.preprocessing import scan_pixels
from model.runtime import Runtime
from scans.manifest import read_manifest
from steps.evaluation.non_scans import non_scans
from steps.training.features import read_features

Vectors = NDArray[np.float64]
Distance = Callable[[Vectors, NDArray[np.bool_] | None], Vectors]  # of rows; excluded pairs
FLAGGED_SHARE = 0.02
BATCH = 16
BLOCK_CHANNELS = 512


def unit(x: Vectors) -> Vectors:
    """Scale rows to length 1."""
    scaled: Vectors = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    return scaled


def blocks_alike(x: Vectors) -> Vectors:
    """Scale each block's part of a row to length 1."""
    parts = range(0, x.shape[1], BLOCK_CHANNELS)
    return np.concatenate([unit(x[:, at : at + BLOCK_CHANNELS]) for at in parts], axis=1)


def nearest(shown: Callable[[Vectors], Vectors], references: Vectors) -> Distance:
    """Average the distances to the nearest references, as `shown`."""
    known = shown(references)

    def distance(x: Vectors, excluded: NDArray[np.bool_] | None) -> Vectors:
        here = shown(x)
        squared = (here**2).sum(1)[:, None] + (known**2).sum(1)[None] - 2 * here @ known.T
        if excluded is not None:
            squared[excluded] = np.inf
        near: Vectors = np.sort(np.sqrt(np.maximum(squared, 0)), axis=1)[:, :NEIGHBOURS].mean(
            axis=1
        )
        return near

    return distance


def standardised(references: Vectors) -> Callable[[Vectors], Vectors]:
    """Take off the mean and divide by the deviation of unit rows of the references."""
    rows = unit(references)
    mean, deviation = rows.mean(axis=0), rows.std(axis=0)
    deviation = np.maximum(deviation, 0.05 * deviation.max())
    return lambda x: (unit(x) - mean) / deviation


def whitened(references: Vectors, shrinkage: float) -> Callable[[Vectors], Vectors]:
    """Whiten standardised rows by their shrunk covariance (Mahalanobis distance)."""
    standard = standardised(references)
    rows = standard(references)
    covariance = rows.T @ rows / len(rows)
    size = np.trace(covariance) / len(covariance)
    shrunk = (1 - shrinkage) * covariance + shrinkage * size * np.eye(len(covariance))
    root = np.linalg.inv(np.linalg.cholesky(shrunk))
    return lambda x: standard(x) @ root.T


def measures(references: Vectors) -> dict[str, Distance]:
    """Return every measure that is compared, by name."""
    width = references.shape[1]
    parts = {"all features": slice(0, width)}
    if width > BLOCK_CHANNELS:
        parts |= {
            "block 4": slice(width - 2 * BLOCK_CHANNELS, width - BLOCK_CHANNELS),
            "block 5": slice(width - BLOCK_CHANNELS, width),
        }
    found: dict[str, Distance] = {}
    for name, part in parts.items():
        own = references[:, part]
        kinds = {
            "scaled to length 1": unit,
            "standardised": standardised(own),
            "whitened 0.5": whitened(own, 0.5),
            "whitened 0.1": whitened(own, 0.1),
        }
        if name == "all features" and width > BLOCK_CHANNELS:
            kinds["each block scaled to length 1"] = blocks_alike
        for kind, shown in kinds.items():
            distance = nearest(shown, own)
            found[f"{name}, {kind}"] = lambda x, excluded, distance=distance, part=part: distance(
                x[:, part], excluded
            )
    return found


@click.command(help=__doc__)
@click.option("--trained", type=click.Path(path_type=Path), default=Path("artifacts/training"))
@click.option("--data", type=click.Path(path_type=Path), default=Path("artifacts/data_ingestion"))
@click.option("--collections", type=click.Path(exists=True, path_type=Path), required=True)
def main(trained: Path, data: Path, collections: Path) -> None:
    folder = trained / "model" / "artifacts" / "network"
    card = Card.read(folder)
    runtime = Runtime(folder / NETWORK, card.precision)

    def vectors(files: list[bytes]) -> Vectors:
        pixels = []
        for file in files:
            try:
                pixels.append(scan_pixels(file, card.preprocessing))
            except ScanError:
                continue
        parts = [
            feature_vectors(runtime(np.stack(pixels[at : at + BATCH])))
            for at in range(0, len(pixels), BATCH)
        ]
        return np.concatenate(parts).astype(np.float64)

    rows = read_manifest(data)
    kept = read_features(trained)
    group_of = {row.sha256: row.group for row in rows}
    groups = np.array([group_of[sha256] for sha256 in kept.sha256])
    references = kept.vectors[:, 0].astype(np.float64)
    same = groups[:, np.newaxis] == groups[np.newaxis]
    chest, other = slices_by_region(collections)
    tests = [(data / row.path).read_bytes() for row in rows if row.split == "test"]
    of_chest = {k: vectors(files) for k, files in ({"test scans": tests} | chest).items()}
    of_other = {
        k: vectors(files) for k, files in (non_scans() | scikit_image_pictures() | other).items()
    }
    result = {}
    for name, distance in measures(references).items():
        threshold = MARGIN * float(np.quantile(distance(references, same), 1 - FLAGGED_SHARE / 2))
        shares = {
            kind: float((distance(x, None) > threshold).mean())
            for kind, x in (of_chest | of_other).items()
        }
        flagged = np.concatenate([distance(x, None) > threshold for x in of_chest.values()])
        found = np.concatenate([distance(x, None) > threshold for x in of_other.values()])
        result[name] = {
            "chest_ct_flagged": float(flagged.mean()),
            "no_chest_ct_flagged": float(found.mean()),
            "by_kind": shares,
        }
        click.echo(
            f"{name:45s} chest CT {flagged.mean():.3f}  others {found.mean():.3f}  "
            + "  ".join(f"{k} {v:.2f}" for k, v in shares.items() if "," in k),
            err=True,
        )
    click.echo(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
