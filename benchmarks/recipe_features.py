"""Features of scans under many recipes, each computed once and kept: for benchmarks/recipe.py."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import openvino
from numpy.typing import NDArray
from openvino import opset13 as ops
from PIL import Image, ImageFilter, ImageOps
from scipy import ndimage

from model.body import WHOLE, Box, body_box, otsu_threshold
from model.decoding.errors import ScanError
from model.decoding.scan_file import decode_grey
from model.network import TO_CHANNELS_LAST, vgg16
from model.preprocessing import stretched_contrast
from model.tensors import Tensor
from scans.fingerprints import near_duplicate_groups, perceptual_hash, sha256_hex
from steps.training.augmentation import Donors, matched_histogram

Arrays = dict[str, NDArray[np.float32]]  # a pooling's vectors by its name

GROUP_DISTANCE_BITS = 40
BATCH = 8
TOP_SHARE = 8  # top-k pooling averages the largest eighth of the places


@dataclasses.dataclass(frozen=True)
class Scan:
    """One distinct picture."""

    source: str
    name: str  # of the file in its archive
    label: str  # the folder that it lay in
    sha256: str
    grey: NDArray[np.uint8]


@dataclasses.dataclass(frozen=True)
class Variant:
    """One way from grey levels to pixels."""

    crop: str = "body"  # fixed, body, lungs, aspect (body, padded to a square), whole
    contrast: str = "stretched"  # stretched, body (medians of air and tissue fixed), equalised
    smoothing: str = "none"  # none, gauss (sigma 1 pixel), down (to 160 pixels and back)
    side: int = 224
    donors: str = "none"  # grey levels of another scan: own source, same class, other sources

    @property
    def name(self) -> str:
        """Return what its features are kept under."""
        return "-".join(map(str, dataclasses.astuple(self)))


def read_scans(archives: dict[str, Path]) -> tuple[list[Scan], NDArray[np.int64]]:
    """Read the distinct scans of zips; what is no scan is left out, with a remark.

    Args:
        archives: zips by source, classes in folders.

    Returns:
        The scans, and the group of near-duplicates of each.
    """
    scans: dict[str, Scan] = {}
    for source, archive in archives.items():
        with zipfile.ZipFile(archive) as files:
            for name in sorted(files.namelist()):
                if not name.lower().endswith((".png", ".jpg", ".jpeg", ".dcm")):
                    continue
                data = files.read(name)
                try:
                    scan = Scan(
                        source, name, name.split("/")[-2], sha256_hex(data), decode_grey(data)
                    )
                except ScanError as error:
                    click.echo(f"left out {name}: {error}", err=True)
                    continue
                scans.setdefault(scan.sha256, scan)
    distinct = list(scans.values())
    hashes = [perceptual_hash(scan.grey) for scan in distinct]
    return distinct, np.array(near_duplicate_groups(hashes, GROUP_DISTANCE_BITS), dtype=np.int64)


def lung_box(grey: NDArray[np.uint8]) -> Box:
    """Find the box around the lungs: dark pieces in the body's box that do not touch its edge."""
    left, top, right, bottom = body_box(grey)
    height, width = grey.shape
    inside = Image.fromarray(grey).resize(
        (128, 128),
        Image.Resampling.BOX,
        box=(left * width, top * height, right * width, bottom * height),
    )
    dark = np.asarray(inside) <= otsu_threshold(np.asarray(inside.histogram()))
    pieces, count = ndimage.label(ndimage.binary_opening(dark, iterations=2))
    lungs = np.zeros(dark.shape, bool)
    for piece in range(1, count + 1):
        mask = pieces == piece
        edge = mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any()
        if not edge and mask.mean() > 0.02:
            lungs |= mask
    if lungs.mean() < 0.08:
        return left, top, right, bottom
    rows, columns = np.nonzero(lungs)
    edges = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / 128
    edges = (edges + np.array([-0.04, -0.04, 0.04, 0.04])).clip(0, 1)
    across, down = right - left, bottom - top
    return (
        left + across * float(edges[0]),
        top + down * float(edges[1]),
        left + across * float(edges[2]),
        top + down * float(edges[3]),
    )


BOXES: dict[str, Callable[[NDArray[np.uint8]], Box]] = {
    "fixed": lambda grey: (0.075, 0.075, 0.925, 0.925),
    "whole": lambda grey: WHOLE,
    "body": body_box,
    "aspect": body_box,
    "lungs": lung_box,
}


def pixels(grey: NDArray[np.uint8], variant: Variant) -> NDArray[np.uint8]:
    """Crop, resize, smooth and stretch: RGB (side, side, 3)."""
    height, width = grey.shape
    left, top, right, bottom = BOXES[variant.crop](grey)
    box = (left * width, top * height, right * width, bottom * height)
    picture = Image.fromarray(grey)
    if variant.crop == "aspect":
        long = max(box[2] - box[0], box[3] - box[1])
        x, y = (box[0] + box[2] - long) / 2, (box[1] + box[3] - long) / 2
        size = (max(1, round(long)),) * 2
        picture = picture.transform(size, Image.Transform.EXTENT, (x, y, x + long, y + long))
        box = (0, 0, *size)
    size = (160, 160) if variant.smoothing == "down" else (variant.side, variant.side)
    square = picture.resize(size, Image.Resampling.BILINEAR, box=box)
    if variant.smoothing == "down":
        square = square.resize((variant.side, variant.side), Image.Resampling.BICUBIC)
    elif variant.smoothing == "gauss":
        square = square.filter(ImageFilter.GaussianBlur(1.0))
    levels = np.asarray(square)
    if variant.contrast == "equalised":
        levels = np.asarray(ImageOps.equalize(square))
    elif variant.contrast == "body":
        levels = _fixed_medians(levels)
    else:
        levels = stretched_contrast(levels, 1.0)
    return np.repeat(levels[..., np.newaxis], 3, axis=2)


def _fixed_medians(levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Move the median of what is dark to 48 and of what is bright to 176, whatever the window."""
    threshold = otsu_threshold(np.bincount(levels.ravel(), minlength=256))
    low, high = np.median(levels[levels <= threshold]), np.median(levels[levels > threshold])
    scaled = (levels - low) / max(high - low, 1.0) * 128 + 48
    return scaled.clip(0, 255).round().astype(np.uint8)


def int8_network(
    tensors: list[Tensor], side: int, scans: Sequence[Scan], folder: Path, samples: int = 100
) -> Path:
    """Export the base with the maps of blocks 4 and 5, quantised at its own input size.

    Args:
        tensors: of VGG16.
        side: of the input, px.
        scans: what int8's ranges are measured on: unlabelled scans of collections that no recipe
            is judged on.
        folder: keeps the network for later runs.
        samples: at most so many, at 224 px; fewer at a larger side.
    """
    path = folder / f"network-{side}-int8.xml"
    if path.is_file():
        return path
    import nncf

    network = vgg16(tensors, side)
    block4 = [op for op in network.get_ordered_ops() if op.get_type_name() == "MaxPool"][3]
    last = ops.transpose(block4.output(0), ops.constant(np.array(TO_CHANNELS_LAST)))
    network.add_results([ops.result(last, name="block4")])
    chosen = np.random.default_rng(0).permutation(len(scans))[: samples * 224 // side]
    shown = [pixels(scans[i].grey, Variant(side=side))[np.newaxis] for i in chosen]
    nncf.set_log_level(40)  # logging.ERROR
    with contextlib.redirect_stdout(sys.stderr):  # its progress bar is no result
        quantised = nncf.quantize(network, nncf.Dataset(shown), subset_size=len(shown))
    openvino.save_model(quantised, path, compress_to_fp16=False)
    return path


def features(scans: Sequence[Scan], variant: Variant, network: Path, folder: Path) -> Arrays:
    """Compute, or read from the folder, every pooling of every scan from one pass.

    Returns:
        By name, (scans, features) each: `root5`, `average5`, `top5`, `max5`, `root4`, `top4`.
    """
    path = folder / f"features-{variant.name}.npz"
    known = _read(path)
    order = [scan.sha256 for scan in scans]
    if all(sha256 in known for sha256 in order):
        return _stacked([known[sha256] for sha256 in order])
    compiled = openvino.Core().compile_model(
        str(network), "CPU", {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    )
    lent = _lent_levels(scans, variant)
    found: dict[str, list[NDArray[np.float32]]] = {}
    starts = range(0, len(scans), BATCH)
    with click.progressbar(starts, label=variant.name, file=click.get_text_stream("stderr")) as bar:
        for start in bar:
            batch = np.stack([pixels(grey, variant) for grey in lent[start : start + BATCH]])
            maps = [np.asarray(output) for output in compiled(batch).values()]
            for block, values in zip("45", sorted(maps, key=lambda m: -m.shape[1]), strict=True):
                for name, vectors in _poolings(values).items():
                    found.setdefault(name + block, []).append(vectors)
    arrays = {name: np.concatenate(parts).astype(np.float32) for name, parts in found.items()}
    np.savez(path, sha256=np.array(order), **arrays)
    return arrays


def _read(path: Path) -> dict[str, Arrays]:
    """Return the features of each known scan by its digest."""
    if not path.is_file():
        return {}
    with np.load(path) as kept:
        arrays = {name: kept[name] for name in kept.files}
    return {
        str(sha256): {name: values[place] for name, values in arrays.items()}
        for place, sha256 in enumerate(arrays.pop("sha256"))
    }


def _stacked(rows: Sequence[Arrays]) -> Arrays:
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _poolings(maps: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    places = np.maximum(maps, 0).reshape(len(maps), -1, maps.shape[-1])
    roots = np.sqrt(places)
    top = max(1, roots.shape[1] // TOP_SHARE)
    return {
        "root": roots.mean(axis=1),
        "average": places.mean(axis=1),
        "top": np.sort(roots, axis=1)[:, -top:].mean(axis=1),
        "max": roots.max(axis=1),
    }


def _lent_levels(scans: Sequence[Scan], variant: Variant) -> list[NDArray[np.uint8]]:
    """Give each scan another's grey levels, as the variant says; its own without donors."""
    if variant.donors == "none":
        return [scan.grey for scan in scans]
    rng = np.random.default_rng(0)
    pools: dict[Any, Donors] = {}

    def pool(scan: Scan) -> Donors:
        key = {
            "own": scan.source,
            "class": (scan.source, scan.label),
            "sources": ("but", scan.source),
        }[variant.donors]
        if key not in pools:
            chosen = {
                "own": lambda other: other.source == scan.source,
                "class": lambda o: (o.source, o.label) == (scan.source, scan.label),
                "sources": lambda other: other.source in ("lungdx", "lidc", "covid"),
            }[variant.donors]
            pools[key] = Donors((other.label, other.grey) for other in scans if chosen(other))
        return pools[key]

    return [matched_histogram(scan.grey, pool(scan).draw(rng)) for scan in scans]
