"""Map grey levels of any depth to uint8 0-255."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LUNG_CENTRE_HU = -600.0  # the lung preset of radiology workstations: Radiopaedia, "Windowing (CT)"
LUNG_WIDTH_HU = 1500.0
WHOLE_DEPTHS = (2.0**8 - 1, 2.0**12 - 1, 2.0**16 - 1)


def to_8_bit(levels: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Scale grey levels to uint8 0-255 by the range their type and values suggest.

    Whole numbers from 0 are read as 8, 12 or 16 bits deep, whichever is the least that holds the
    largest: CT exports keep 12-bit values in 16-bit files, and the picture's own range would make
    a scan brighter only because it has no white pixel. Fractions from 0 to 1 are black to white.
    Anything else has no agreed range, so its own smallest value is black and its largest white.
    NaN and infinities count as the smallest finite value.
    """
    if levels.dtype == np.uint16:
        depth = next(depth for depth in WHOLE_DEPTHS if int(levels.max()) <= depth)
        table = stretch_linearly(np.arange(2**16), 0.0, depth)
        return np.asarray(table[levels])
    values = np.asarray(levels, dtype=np.float32)
    finite = np.isfinite(values)
    if not finite.all():
        lowest = values.min(where=finite, initial=np.inf)
        values = np.where(finite, values, lowest if np.isfinite(lowest) else 0.0)
    low, high = float(values.min()), float(values.max())
    if low >= 0:
        whole = np.issubdtype(levels.dtype, np.integer)
        depths = WHOLE_DEPTHS if whole else (1.0, *WHOLE_DEPTHS)
        low, high = 0.0, next((depth for depth in depths if high <= depth), high)
    return stretch_linearly(values, low, high)


def stretch_linearly(values: NDArray[np.generic], black: float, white: float) -> NDArray[np.uint8]:
    """Map `black` and below to 0, `white` and above to 255, and round what lies between."""
    scaled: NDArray[np.floating] = np.subtract(values, black)
    scaled *= 255.0 / (white - black) if white > black else 0.0
    np.clip(scaled, 0, 255, out=scaled)  # in place: a large picture is held few times
    np.rint(scaled, out=scaled)
    return scaled.astype(np.uint8)


def window(
    values: NDArray[np.floating],
    centre: float = LUNG_CENTRE_HU,
    width: float = LUNG_WIDTH_HU,
) -> NDArray[np.uint8]:
    """Apply a linear window as DICOM defines it (PS3.3 C.11.2.1.2.1), to uint8 0-255.

    Args:
        values: after the rescale, in Hounsfield units for a CT; any shape.
        centre, width: in the unit of `values`; width is at least 1.
    """
    if width <= 1:  # the standard's formula has become a threshold
        return np.where(values > centre - 0.5, 255, 0).astype(np.uint8)
    half = (width - 1) / 2
    return stretch_linearly(values, centre - 0.5 - half, centre - 0.5 + half)
