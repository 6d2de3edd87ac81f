"""Features of scans under many recipes, each computed once and kept: for benchmarks/recipe.py."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import numpy as np
import openvino
from numpy.typing import NDArray
from openvino import opset13 as ops

from benchmarks.recipe_pixels import Variant, lent_levels, pixels
from benchmarks.recipe_scans import Scan
from model.features import feature_vectors
from model.network import TO_CHANNELS_LAST, vgg16
from model.tensors import Tensor

Arrays = dict[str, NDArray[np.float32]]  # a pooling's vectors by its name

BATCH = 8
KEPT_AT_ONCE = 128  # scans whose features are written together
TOP_SHARE = 8  # top-k pooling averages the largest eighth of the places
TAPPED = (3, 4, 5)  # blocks whose maps the network gives


def int8_network(
    tensors: Sequence[Tensor], side: int, scans: Sequence[Scan], folder: Path, samples: int = 100
) -> Path:
    """Export the base with the maps of three blocks, quantised at its own input size.

    Args:
        tensors: of VGG16.
        side: of the input, px.
        scans: what int8's ranges are measured on: unlabelled scans of collections that no recipe
            is judged on.
        folder: keeps the network for later runs.
        samples: at most so many, at 224 px; fewer at a larger side.
    """
    path = folder / f"tapped-{side}-int8.xml"
    if path.is_file():
        return path
    import nncf

    network = vgg16(tensors, side)
    pools = [op for op in network.get_ordered_ops() if op.get_type_name() == "MaxPool"]
    order = ops.constant(np.array(TO_CHANNELS_LAST))
    for block in TAPPED[:-1]:
        last = ops.transpose(pools[block - 1].output(0), order)
        network.add_results([ops.result(last, name=f"block{block}")])
    chosen = np.random.default_rng(0).permutation(len(scans))[: samples * 224 // side]
    shown = [pixels(scans[i].grey, Variant(side=side))[np.newaxis] for i in chosen]
    nncf.set_log_level(40)  # logging.ERROR
    with contextlib.redirect_stdout(sys.stderr):  # its progress bar is no result
        quantised = nncf.quantize(network, nncf.Dataset(shown), subset_size=len(shown))
    openvino.save_model(quantised, path, compress_to_fp16=False)
    return path


def features(
    scans: Sequence[Scan],
    every: Sequence[Scan],
    variant: Variant,
    network: Callable[[], Path],
    folder: Path,
) -> Arrays:
    """Compute, or read from the folder, every pooling of every scan from one pass.

    Args:
        scans: whose features are wanted.
        every: all scans of all collections, which may lend grey levels.
        variant: how they become pixels.
        network: makes, or finds, that of `int8_network`.
        folder: keeps the features.

    Returns:
        By name, (scans, features) each: `root3`, and `root`, `average`, `top`, `max` of blocks 4
        and 5.
    """
    path = folder / f"features-{variant.name}.npz"
    places, arrays = _read(path)
    missing = [scan for scan in scans if scan.sha256 not in places]
    if missing:
        runs = openvino.Core().compile_model(
            str(network()),
            "CPU",
            {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"},
        )
        starts = range(0, len(missing), KEPT_AT_ONCE)
        with click.progressbar(starts, label=variant.name, file=sys.stderr) as bar:
            for start in bar:
                some = missing[start : start + KEPT_AT_ONCE]
                found = _computed(some, every, variant, runs)
                arrays = {
                    k: np.concatenate([arrays[k], v]) if places else v for k, v in found.items()
                }
                places |= {scan.sha256: len(places) + i for i, scan in enumerate(some)}
                np.savez(path, sha256=np.array(list(places)), **arrays)
    taken = [places[scan.sha256] for scan in scans]
    return {name: values[taken] for name, values in arrays.items()}


def _read(path: Path) -> tuple[dict[str, int], Arrays]:
    """Return the place of each known scan, by digest, and the features."""
    if not path.is_file():
        return {}, {}
    with np.load(path) as kept:
        arrays = {name: kept[name] for name in kept.files}
    return {str(sha256): i for i, sha256 in enumerate(arrays.pop("sha256"))}, arrays


def _computed(
    scans: Sequence[Scan], every: Sequence[Scan], variant: Variant, runs: openvino.CompiledModel
) -> Arrays:
    found: dict[str, list[NDArray[np.float32]]] = {}
    lent = lent_levels(scans, every, variant.donors)
    for start in range(0, len(scans), BATCH):
        batch = np.stack([pixels(grey, variant) for grey in lent[start : start + BATCH]])
        maps = [np.asarray(output) for output in runs(batch).values()]
        maps.sort(key=lambda values: -values.shape[1])
        for block, values in zip(TAPPED, maps, strict=True):
            for name, vectors in _poolings(values, every_kind=block > 3).items():
                found.setdefault(f"{name}{block}", []).append(vectors)
    return {name: np.concatenate(parts).astype(np.float32) for name, parts in found.items()}


def _poolings(maps: NDArray[np.float32], every_kind: bool) -> dict[str, NDArray[np.float32]]:
    if not every_kind:
        return {"root": feature_vectors(maps)}
    places = np.maximum(maps, 0).reshape(len(maps), -1, maps.shape[-1])
    roots = np.sqrt(places)
    count = roots.shape[1]
    top = max(1, count // TOP_SHARE)
    largest = np.partition(roots, count - top, axis=1)[:, count - top :]
    return {
        "root": roots.mean(axis=1),
        "average": places.mean(axis=1),
        "top": largest.mean(axis=1),
        "max": roots.max(axis=1),
    }
