"""Ways from a scan's grey levels to the network's pixels: for benchmarks/recipe.py."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps
from scipy import ndimage

from benchmarks.recipe_scans import STRANGERS, Scan
from model.body import WHOLE, Box, body_box, otsu_threshold
from model.contrast import fixed_medians, stretched_contrast
from model.crop import CropAspect, cut_out
from steps.training.augmentation import Donors, matched_histogram

Grey = NDArray[np.uint8]
SIGMAS_PX = {"gauss": 1.0, "soft": 0.5}  # of smoothing, in pixels of the network
MEDIANS_AT = {  # where the medians of air and of tissue go
    f"medians {air}-{tissue}": (air, tissue)
    for air, tissue in (
        (32, 192), (48, 176), (64, 160), (80, 144), (80, 176), (48, 144), (32, 128),
    )
}  # fmt: skip
BODY_QUANTILES = (0.05, 0.95)  # of the body's own pixels, contrast "quantiles"
QUANTILES_AT = (96, 224)  # ... and the levels they go to: air and lung stay below the first
CROPS_IN_WORDS = {
    "fixed": "fixed crop", "lungs": "lungs' box", "aspect": "aspect ratio kept", "whole": "no crop",
}  # fmt: skip
CONTRASTS_IN_WORDS = {"quantiles": "quantiles of tissue"}
SMOOTHED_IN_WORDS = {
    "soft": "smoothed 0.5 px", "gauss": "smoothed 1 px", "down": "through 160 px",
}  # fmt: skip
DONORS_IN_WORDS = {
    "own": "by the own source", "class": "within the class", "sources": "by other sources",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Variant:
    """One way from grey levels to pixels."""

    crop: str = "body"  # fixed, body, lungs, aspect (body, padded to a square), whole
    contrast: str = "stretched"  # stretched, one of MEDIANS_AT, quantiles, equalised
    smoothing: str = "none"  # none, gauss, soft, down (to 160 pixels and back)
    side: int = 224
    donors: str = "none"  # grey levels of another scan: own source, same class, other sources

    @property
    def name(self) -> str:
        """Return what its features are kept under."""
        return "-".join(map(str, dataclasses.astuple(self)))

    @property
    def words(self) -> str:
        """Return what the printed table calls it; a body crop at 224 px goes without saying."""
        said = [f"{self.side} px"] if self.side != Variant.side else []
        said += [CROPS_IN_WORDS[self.crop]] if self.crop != Variant.crop else []
        said.append(CONTRASTS_IN_WORDS.get(self.contrast, self.contrast.replace("-", "–")))
        said += [SMOOTHED_IN_WORDS[self.smoothing]] if self.smoothing != "none" else []
        said += [f"levels lent {DONORS_IN_WORDS[self.donors]}"] if self.donors != "none" else []
        return ", ".join(said)


def lung_box(grey: Grey) -> Box:
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


BOXES: dict[str, Callable[[Grey], Box]] = {
    "fixed": lambda grey: (0.075, 0.075, 0.925, 0.925),
    "whole": lambda grey: WHOLE,
    "body": body_box,
    "aspect": body_box,
    "lungs": lung_box,
}


def pixels(grey: Grey, variant: Variant) -> Grey:
    """Crop, resize, smooth and stretch: RGB (side, side, 3)."""
    side = 160 if variant.smoothing == "down" else variant.side
    aspect: CropAspect = "kept" if variant.crop == "aspect" else "stretched"
    square = Image.fromarray(cut_out(grey, BOXES[variant.crop](grey), side, aspect).grey)
    if variant.smoothing == "down":
        square = square.resize((variant.side, variant.side), Image.Resampling.BICUBIC)
    elif variant.smoothing != "none":
        square = square.filter(ImageFilter.GaussianBlur(SIGMAS_PX[variant.smoothing]))
    levels = CONTRASTS[variant.contrast](np.asarray(square))
    return np.repeat(levels[..., np.newaxis], 3, axis=2)


def _fixed_quantiles(levels: Grey) -> Grey:
    """Move BODY_QUANTILES of what is brighter than air and lung to fixed levels."""
    threshold = otsu_threshold(np.bincount(levels.ravel(), minlength=256))
    low, high = np.quantile(levels[levels > threshold], BODY_QUANTILES)
    scale = (QUANTILES_AT[1] - QUANTILES_AT[0]) / max(high - low, 1.0)
    moved = (levels - low) * scale + QUANTILES_AT[0]
    return moved.clip(0, 255).round().astype(np.uint8)


CONTRASTS: dict[str, Callable[[Grey], Grey]] = {
    "stretched": lambda levels: stretched_contrast(levels, 1.0),
    "equalised": lambda levels: np.asarray(ImageOps.equalize(Image.fromarray(levels))),
    "quantiles": lambda levels: _fixed_quantiles(levels),
} | {
    name: functools.partial(fixed_medians, air=air, tissue=tissue)
    for name, (air, tissue) in MEDIANS_AT.items()
}


def lent_levels(scans: Sequence[Scan], every: Sequence[Scan], donors: str) -> list[Grey]:
    """Give each scan another's grey levels; its own with donors `none`.

    Args:
        scans: that borrow.
        every: all scans of all collections.
        donors: `own` (scans of the same source, each class as likely), `class` (of the same source
            and class) or `sources` (of collections that no direction trains on or scores).
    """
    if donors == "none":
        return [scan.grey for scan in scans]
    pools: dict[Any, Donors] = {}

    def pool(scan: Scan) -> Donors:
        chosen: dict[str, tuple[Any, Callable[[Scan], bool]]] = {
            "own": (scan.source, lambda o: o.source == scan.source),
            "class": ((scan.source, scan.label), lambda o: (o.source, o.label) == key),
            "sources": ("strangers", lambda o: o.source in STRANGERS),
        }
        key, lends = chosen[donors]
        if key not in pools:
            pools[key] = Donors((other.label, other.grey) for other in every if lends(other))
        return pools[key]

    rngs = (np.random.default_rng([0, int(scan.sha256[:15], 16)]) for scan in scans)
    return [
        matched_histogram(scan.grey, pool(scan).draw(rng))
        for scan, rng in zip(scans, rngs, strict=True)
    ]
