"""Augmented views of a scan: what may differ between scanners and patients, not between diseases."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How far a view may be from its scan. Zero switches a change off."""

    views: int  # of each scan, beside the scan itself
    flip: bool  # left and right
    rotation_deg: float  # at most, either way
    shift: float  # at most, as a fraction of the side
    zoom: float  # at most, as a fraction: 0.1 is 0.9 to 1.1 times the size
    brightness: float  # at most, as a fraction of 255 added or taken
    contrast: float  # at most, as a fraction: 0.2 is 0.8 to 1.2 times the distance from the mean


def augmented_views(
    scan: NDArray[np.uint8], settings: Augmentation, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Draw the views of a scan.

    Args:
        scan: RGB (side, side, 3), 0-255.
        settings: kinds and strengths.
        rng: source of the draws; the same state draws the same views.

    Returns:
        (settings.views, side, side, 3).
    """
    views = [_view(scan, settings, rng) for _ in range(settings.views)]
    return np.stack(views) if views else np.empty((0, *scan.shape), np.uint8)


def _view(
    scan: NDArray[np.uint8], settings: Augmentation, rng: np.random.Generator
) -> NDArray[np.uint8]:
    side = scan.shape[0]
    turn = math.radians(rng.uniform(-settings.rotation_deg, settings.rotation_deg))
    scale = 1 / (1 + rng.uniform(-settings.zoom, settings.zoom))
    shift_x, shift_y = rng.uniform(-settings.shift, settings.shift, 2) * side
    mirror = -1 if settings.flip and rng.random() < 0.5 else 1
    # Pillow asks where each pixel of the view comes from: turned, scaled and mirrored about the
    # middle, then shifted. One resampling for all of them keeps the view sharp.
    a, b = mirror * scale * math.cos(turn), mirror * scale * math.sin(turn)
    d, e = -scale * math.sin(turn), scale * math.cos(turn)
    middle = (side - 1) / 2
    from_x = middle - a * (middle + shift_x) - b * (middle + shift_y)
    from_y = middle - d * (middle + shift_x) - e * (middle + shift_y)
    moved = Image.fromarray(scan).transform(
        (side, side),
        Image.Transform.AFFINE,
        (a, b, from_x, d, e, from_y),
        Image.Resampling.BILINEAR,
    )
    brightness = 255 * rng.uniform(-settings.brightness, settings.brightness)
    contrast = 1 + rng.uniform(-settings.contrast, settings.contrast)
    values = np.asarray(moved, dtype=np.float32)
    mean = values.mean()
    changed = (values - mean) * contrast + mean + brightness
    return changed.round().clip(0, 255).astype(np.uint8)
