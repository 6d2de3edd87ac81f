"""Bring the grey levels of chest CT from any window to the same ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .body import otsu_threshold

# Where lung and tissue go, 0-255. Pixels between them get less than the range that they usually
# have, and transfer better: docs/adr/0056-fixed-medians.md.
AIR_LEVEL, TISSUE_LEVEL = 32, 128


def fixed_medians(
    grey: NDArray[np.uint8], air: int = AIR_LEVEL, tissue: int = TISSUE_LEVEL
) -> NDArray[np.uint8]:
    """Move the median of what is dark and the median of what is bright to fixed grey levels.

    Otsu's threshold tells air and lung from tissue. Windows differ in what they show of bone and of
    air, which moves the ends of the range, and hardly in where lung and soft tissue lie.

    Args:
        grey: (height, width), 0-255, of the body.
        air: level of the median of what is dark.
        tissue: level of the median of what is bright.

    Returns:
        (height, width), 0-255; what leaves that range saturates. A blank picture stays blank.
    """
    histogram = np.asarray(Image.fromarray(grey).histogram())
    above = otsu_threshold(histogram) + 1
    dark, bright = _median(histogram[:above]), above + _median(histogram[above:])
    scale = (tissue - air) / max(bright - dark, 1)
    return _looked_up((np.arange(256) - dark) * scale + air, grey)


def stretched_contrast(grey: NDArray[np.uint8], cutoff_percent: float) -> NDArray[np.uint8]:
    """Stretch grey levels linearly so that they fill 0-255.

    Args:
        grey: (height, width), 0-255.
        cutoff_percent: share of pixels, 0 to below 50, that saturates at either end.

    Returns:
        (height, width), 0-255. A blank picture becomes black.
    """
    low, high = _percentiles(grey, [cutoff_percent, 100 - cutoff_percent])
    return _looked_up((np.arange(256) - low) * (255 / max(high - low, 1.0)), grey)


def _looked_up(levels: NDArray[np.floating[Any]], grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    table: NDArray[np.uint8] = levels.clip(0, 255).round().astype(np.uint8)
    return np.take(table, grey)


def _median(counts: NDArray[np.int_]) -> int:
    """Return the lower median of a histogram, as a position in it; 0 of an empty one."""
    up_to_level = np.cumsum(counts)
    return int(np.searchsorted(up_to_level, (up_to_level[-1] + 1) // 2)) if len(counts) else 0


def _percentiles(grey: NDArray[np.uint8], percents: list[float]) -> list[float]:
    """Return what `np.percentile` does, from the histogram: six times as fast on 224 x 224."""
    up_to_level = np.cumsum(Image.fromarray(grey).histogram())
    found = []
    for percent in percents:
        below, fraction = divmod(percent / 100 * (grey.size - 1), 1)
        ranks = [below, min(below + 1, grey.size - 1)]
        lower, upper = np.searchsorted(up_to_level, ranks, side="right").tolist()
        found.append(lower + (upper - lower) * fraction)
    return found
