"""Stored values of a CT slice to grey levels: rescale, window, padding, inversion."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .dicom_elements import EXPECTED, Elements
from .dicom_pixels import StoredPixels, Words
from .errors import ScanError
from .grey_levels import LUNG_CENTRE_HU, LUNG_WIDTH_HU, look_up, to_8_bit, window

PADDING_HU = -2000  # black in every window of CT, as padding is in grey levels
MAX_SLOPE, MAX_OFFSET = 1e4, 1e6  # of rescale and window; CT has about 1 and -1024


def render(pixels: StoredPixels, elements: Elements) -> NDArray[np.uint8]:
    """Turn stored values to grey levels, with a table of the grey level of every word."""
    slope, intercept = _rescale(elements)
    centre = _within(elements.decimal("WindowCenter"), MAX_OFFSET, "WindowCenter")
    width = _within(elements.decimal("WindowWidth"), MAX_OFFSET, "WindowWidth")
    padding = _padding(elements, signed=pixels.words.signed)
    inverted = elements.text("PhotometricInterpretation") == "MONOCHROME1"
    rescale = (1.0 if slope is None else slope, intercept or 0.0)
    if elements.text("Modality") != "OT" and slope is not None and intercept is not None:
        table = _table(pixels.words, rescale, (LUNG_CENTRE_HU, LUNG_WIDTH_HU), padding, inverted)
    elif centre is not None and width is not None:
        table = _table(pixels.words, rescale, (centre, width), padding, inverted)
    else:
        values = pixels.words.values().astype(np.int16 if pixels.words.signed else np.uint16)
        values[_is_padding(pixels.words, padding)] = values.min()
        grey = to_8_bit(values[pixels.codes])
        return 255 - grey if inverted else grey
    return look_up(table, pixels.codes)


def hounsfield(pixels: StoredPixels, elements: Elements) -> NDArray[np.int16] | None:
    """Turn stored values to Hounsfield units, rounded and kept within int16.

    Returns:
        Shape (Rows, Columns), PADDING_HU where there is no pixel; None for what has no such units.
    """
    slope, intercept = _rescale(elements)
    if elements.text("Modality") == "OT" or slope is None or intercept is None:
        return None
    ends = np.iinfo(np.int16)
    units = np.clip(np.rint(pixels.words.values() * slope + intercept), ends.min, ends.max)
    table = units.astype(np.int16)
    padding = _padding(elements, signed=pixels.words.signed)
    table[_is_padding(pixels.words, padding)] = PADDING_HU
    return np.take(table, pixels.codes)


@lru_cache(maxsize=32)  # 64 kB each; the slices of a series share one
def _table(
    words: Words,
    rescale: tuple[float, float],
    centre_and_width: tuple[float, float],
    padding: tuple[int, int] | None,
    inverted: bool,
) -> NDArray[np.uint8]:
    """Return the grey level of every word."""
    slope, intercept = rescale
    table = window(words.values() * slope + intercept, *centre_and_width)
    table[_is_padding(words, padding)] = 0
    table = 255 - table if inverted else table
    table.flags.writeable = False  # callers share it
    return table


def _rescale(elements: Elements) -> tuple[float | None, float | None]:
    """Return Rescale Slope and Intercept, refusing a CT without usable ones."""
    slope, intercept = elements.decimal("RescaleSlope"), elements.decimal("RescaleIntercept")
    missing = [
        name
        for name, value in (("Slope", slope), ("Intercept", intercept))
        if value is None or (name == "Slope" and value == 0)
    ]
    if missing and elements.text("Modality") == "CT":
        raise ScanError(
            "no_hounsfield_units",
            f"{EXPECTED} with Rescale Slope and Rescale Intercept, received one without Rescale "
            f"{' and '.join(missing)}, so its Hounsfield units are unknown; export the original "
            "slice.",
        )
    if slope is not None and slope != 0 and abs(slope) < 1 / MAX_SLOPE:
        slope = 2 * MAX_SLOPE  # as far from any CT's as what is too large
    _within(slope, MAX_SLOPE, "RescaleSlope")
    return slope, _within(intercept, MAX_OFFSET, "RescaleIntercept")


def _within(value: float | None, limit: float, keyword: str) -> float | None:
    if value is not None and abs(value) > limit:
        raise ScanError(
            "invalid_element",
            f"{EXPECTED}, received one whose {keyword} is a number that no CT has; "
            "export the slice again.",
        )
    return value


def _padding(elements: Elements, *, signed: bool) -> tuple[int, int] | None:
    """Return the smallest and largest Pixel Padding Value, PS3.3 C.7.5.1.1.2."""
    first = elements.optional_whole("PixelPaddingValue")
    last = elements.optional_whole("PixelPaddingRangeLimit")
    if first is None:
        return None
    last = first if last is None else last
    ends = [value - 2**16 if signed and value >= 2**15 else value for value in (first, last)]
    return min(ends), max(ends)


def _is_padding(words: Words, padding: tuple[int, int] | None) -> NDArray[np.bool_]:
    """Mark the words that stand for no pixel.

    A padding value may need more bits than are stored, so it is compared with whole words too.
    """
    if padding is None:
        return np.zeros(2**words.word_bits, np.bool_)
    low, high = padding
    values, whole = words.values(), words.whole()
    return (low <= values) & (values <= high) | (low <= whole) & (whole <= high)
