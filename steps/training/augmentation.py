"""Augmented views of a scan: what differs between scanners and patients, not between diseases."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.preprocessing import Preprocessing, prepared_pixels


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How far a view may be from its scan. Zero switches a change off."""

    views: int  # of each scan, beside the scan itself
    flip: bool  # left and right
    rotation_deg: float  # at most, either way
    shift: float  # at most, as a fraction of the side
    zoom: float  # at most, as a fraction: 0.1 is 0.9 to 1.1 times the size
    brightness: float  # at most, as a fraction of 255 added or taken
    histogram_match: float  # share of views that get another training scan's grey levels, 0-1
    contrast: float  # at most, as a fraction: 0.2 is 0.8 to 1.2 times the distance from the mean


class Donors:
    """Grey-level distributions of training scans, for views with another scan's tones."""

    def __init__(self, scans: Iterable[tuple[str, NDArray[np.uint8]]]) -> None:
        """Keep the distribution of each scan, given as class and grey levels (height, width)."""
        by_class: dict[str, list[NDArray[np.float64]]] = {}
        for label, grey in scans:
            by_class.setdefault(label, []).append(cumulative(grey))
        self._classes = [by_class[label] for label in sorted(by_class)]

    def draw(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Return a scan's cumulative distribution (256,); each class is as likely as another."""
        scans = self._classes[rng.integers(len(self._classes))]
        return scans[rng.integers(len(scans))]


def scan_and_views(
    grey: NDArray[np.uint8],
    preprocessing: Preprocessing,
    settings: Augmentation,
    donors: Donors,
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """Prepare a scan's pixels and draw its views.

    Args:
        grey: the whole scan, (height, width), 0-255.
        preprocessing: how grey levels become pixels.
        settings: kinds and strengths.
        donors: where the tones of a view may come from.
        rng: source of the draws; the same state draws the same views.

    Returns:
        RGB (1 + settings.views, side, side, 3): the scan itself first.
    """
    prepared = [prepared_pixels(grey, preprocessing)]
    for _ in range(settings.views):
        toned = grey
        if rng.random() < settings.histogram_match:
            toned = matched_histogram(grey, donors.draw(rng))
        prepared.append(_view(prepared_pixels(toned, preprocessing), settings, rng))
    return np.stack(prepared)


def matched_histogram(grey: NDArray[np.uint8], donor: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Give a scan the grey levels of another (Gonzalez & Woods, Digital Image Processing, 3.3.2).

    Args:
        grey: (height, width), 0-255.
        donor: cumulative distribution of the other scan's levels, (256,), ending at 1.

    Returns:
        (height, width), 0-255: each level replaced by the donor's level of the same rank.
    """
    table = np.interp(cumulative(grey), donor, np.arange(256)).round().astype(np.uint8)
    matched: NDArray[np.uint8] = table[grey]
    return matched


def cumulative(grey: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the share of pixels at or below each grey level, (256,), ending at 1."""
    counts = np.bincount(grey.ravel(), minlength=256)
    return np.cumsum(counts) / grey.size


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
    middle = side / 2
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
    view: NDArray[np.uint8] = changed.round().clip(0, 255).astype(np.uint8)
    return view
