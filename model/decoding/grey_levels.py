"""Map grey levels and colours of any depth to uint8 0-255."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

LUNG_CENTRE_HU = -600.0  # the lung preset of radiology workstations: Radiopaedia, "Windowing (CT)"
LUNG_WIDTH_HU = 1500.0
WHOLE_DEPTHS = (2.0**8 - 1, 2.0**12 - 1, 2.0**16 - 1)
SMALLEST_RANGE, LARGEST = 1e-300, 1e300  # so that neither a difference nor a factor overflows
BLOCK = 2**20  # levels that are converted at a time, so that a large picture is held once
AIR_HU = (-1500, -500)  # where a slice's darkest pixels lie, padding aside: air is at -1000
MAX_PADDING_VALUES = 2


def to_8_bit(levels: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Scale grey levels to uint8 0-255 by the range their type and values suggest.

    Whole numbers from 0 are read as 8, 12 or 16 bits deep, whichever is the least that holds the
    largest: CT exports keep 12-bit values in 16-bit files, and the picture's own range would make
    a scan brighter only because it has no white pixel. Fractions from 0 to 1 are black to white.
    Anything else has no agreed range, so its own smallest value is black and its largest white.
    NaN and infinities count as the smallest finite value.
    """
    if levels.dtype == np.uint8:
        return levels.astype(np.uint8)
    if levels.dtype == np.uint16:
        return look_up(_table_of_depth(int(levels.max())), levels)
    low, high = _finite_range(levels)
    if low >= 0:
        whole = np.issubdtype(levels.dtype, np.integer)
        depths = WHOLE_DEPTHS if whole else (1.0, *WHOLE_DEPTHS)
        black, high = 0.0, next((depth for depth in depths if high <= depth), high)
    else:
        black = low
    grey = np.empty(levels.shape, np.uint8)
    for source, target in zip(_blocks(levels), _blocks(grey), strict=True):
        with np.errstate(invalid="ignore"):  # a signalling NaN
            values = source.astype(np.float64)
        values[~np.isfinite(values)] = low
        np.clip(values, -LARGEST, LARGEST, out=values)
        target[...] = stretch_linearly(values, black, high)
    return grey


def colours_to_grey(
    channels: Sequence[NDArray[np.generic]], alpha: NDArray[np.generic] | None = None
) -> NDArray[np.uint8]:
    """Weigh red, green and blue as ITU-R BT.601 does, at the depth that holds them all.

    Args:
        channels: three of (height, width), uint8 or uint16; or one of grey levels.
        alpha: opacity, of the same kind; the picture is laid on black.
    """
    table, alpha_table = _identity_or_depth(channels), _identity_or_depth([alpha])
    grey = np.empty(channels[0].shape, np.uint8)
    parts = [_blocks(channel) for channel in channels]
    alphas = repeat(None) if alpha is None else _blocks(alpha)
    for target, opacity, *bands in zip(_blocks(grey), alphas, *parts, strict=False):
        levels = [Image.fromarray(np.ascontiguousarray(table[band])) for band in bands]
        shown = levels[0] if len(levels) == 1 else Image.merge("RGB", levels).convert("L")
        if opacity is not None:
            shown = ImageChops.multiply(shown, Image.fromarray(alpha_table[opacity]))
        target[...] = np.asarray(shown)
    return grey


def _identity_or_depth(channels: Sequence[NDArray[np.generic] | None]) -> NDArray[np.uint8]:
    """Return a table from uint8 or uint16 levels to uint8."""
    known = [channel for channel in channels if channel is not None]
    if not known or known[0].dtype == np.uint8:
        return np.arange(256, dtype=np.uint8)
    return _table_of_depth(max(int(channel.max()) for channel in known))


def looks_like_hounsfield(levels: NDArray[np.generic]) -> bool:
    """Tell whether int16 levels are Hounsfield units of a CT slice.

    They are when their smallest value is that of air, once at most two values below it (what
    stands outside the field of view: -2000, -3024, -8192, …) are left out.
    """
    found = np.zeros(2**16, np.bool_)
    for block in _blocks(levels):
        found[np.ascontiguousarray(block).view(np.uint16)] = True
    values = np.sort(np.flatnonzero(found).astype(np.uint16).view(np.int16).astype(int))
    lowest, highest = AIR_HU
    padding = int((values < lowest).sum())
    if padding > MAX_PADDING_VALUES or padding == len(values):
        return False
    return bool(values[padding] <= highest)


def stretch_linearly(values: NDArray[np.generic], black: float, white: float) -> NDArray[np.uint8]:
    """Map `black` and below to 0, `white` and above to 255, and round what lies between."""
    scaled: NDArray[np.floating] = np.subtract(values, black)
    scaled *= 255.0 / (white - black) if white - black > SMALLEST_RANGE else 0.0
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


def look_up(table: NDArray[np.uint8], codes: NDArray[Any]) -> NDArray[np.uint8]:
    """Return `table[codes]`. NumPy widens indices to 8 bytes each, so a block at a time."""
    grey = np.empty(codes.shape, np.uint8)
    for source, target in zip(_blocks(codes), _blocks(grey), strict=True):
        target[...] = np.take(table, source)
    return grey


def _table_of_depth(largest: int) -> NDArray[np.uint8]:
    depth = next(depth for depth in WHOLE_DEPTHS if largest <= depth)
    return stretch_linearly(np.arange(2**16), 0.0, depth)


def _blocks(levels: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield runs of rows of some BLOCK levels."""
    rows = max(BLOCK // max(levels[0].size, 1), 1)
    for start in range(0, len(levels), rows):
        yield levels[start : start + rows]


def _finite_range(levels: NDArray[np.generic]) -> tuple[float, float]:
    """Return the smallest and largest finite value; (0, 0) where there is none."""
    low, high = np.inf, -np.inf
    for block in _blocks(levels):
        finite = block[np.isfinite(block)] if levels.dtype.kind == "f" else block
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    low, high = max(low, -LARGEST), min(high, LARGEST)
    return (low, high) if low <= high else (0.0, 0.0)
