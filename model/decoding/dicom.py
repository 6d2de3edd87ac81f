"""Read one CT slice from a DICOM file as the grey levels a radiologist sees in a lung window.

The order is the standard's (PS3.4 N.2): stored values, rescale to Hounsfield units, window, and
inversion when the photometric interpretation is MONOCHROME1. A file that says it is of another
modality than CT is refused, because a lung window means nothing there. So is a CT without a
rescale. Secondary captures ("OT", or no modality and no rescale) have no Hounsfield units: they
get the window in the file or, without one, are read as a plain picture of the same grey levels.
Pixel padding is shown as air is.

No message quotes text from the file, so no patient attribute can reach a row, a log or an error.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .decoded import Decoded, DicomHeader
from .dicom_elements import EXPECTED, Elements, is_dicom, read_elements
from .dicom_header import header_of
from .dicom_pixels import StoredPixels, Words, stored_pixels
from .errors import ScanError, check_size
from .grey_levels import LUNG_CENTRE_HU, LUNG_WIDTH_HU, to_8_bit, window
from .quiet import quiet_decoders

__all__ = ["decode_dicom", "is_dicom", "read_dicom_header"]

MAX_DEGREES_OFF_AXIAL = 20.0  # a gantry is tilted by less in chest CT; a reformat is at 90
MAX_SLOPE, MAX_OFFSET = 1e4, 1e6  # of rescale and window; CT has about 1 and -1024
GREY_KINDS = ("MONOCHROME1", "MONOCHROME2")
OTHER_MODALITIES = {  # PS3.3 C.7.3.1.1.1, those that people send by mistake
    "CR": "a computed radiograph",
    "DX": "a digital radiograph",
    "MG": "a mammogram",
    "MR": "a magnetic resonance image",
    "NM": "a nuclear medicine image",
    "PT": "a PET image",
    "RTDOSE": "a radiotherapy dose",
    "RTPLAN": "a radiotherapy plan",
    "RTSTRUCT": "a radiotherapy structure set",
    "SEG": "a segmentation",
    "SR": "a structured report",
    "US": "an ultrasound image",
    "XA": "an angiogram",
}


def decode_dicom(data: bytes) -> Decoded:
    """Decode a DICOM file to grey levels in a lung window.

    Returns:
        Grey levels uint8 0-255, shape (Rows, Columns), 0 is black; and the header.

    Raises:
        ScanError: when it is not one grey axial CT slice that can be decoded.
    """
    # A ScanError raised after the handler has no cause or context whose text could quote the file.
    try:
        with quiet_decoders():
            elements = read_elements(data)
            header = header_of(elements.raw)
            grey = _grey(elements, header)
            height, width = grey.shape
            mode = elements.text("PhotometricInterpretation")
            return Decoded(grey, width, height, mode, "DICOM", header)
    except (ScanError, ImportError):  # a decoder that is not installed is no fault of the file
        raise
    except Exception:  # noqa: S110 - pydicom raises nearly every type on damaged bytes
        pass
    raise _damaged(data)


def read_dicom_header(data: bytes) -> DicomHeader:
    """Read a DICOM file's header without its pixels.

    Args:
        data: the file, or its start up to the pixels.

    Raises:
        ScanError: when the file is damaged.
    """
    try:
        with quiet_decoders():
            raw = read_elements(data).raw
            if any(raw.values()):
                return header_of(raw)
    except ScanError:
        raise
    except Exception:  # noqa: S110 - see decode_dicom
        pass
    raise _damaged(data)


def _damaged(data: bytes) -> ScanError:
    return ScanError(
        f"{EXPECTED}, received {len(data)} bytes of one that is damaged or cut short; "
        "send it again."
    )


def _grey(elements: Elements, header: DicomHeader) -> NDArray[np.uint8]:
    """Check that the elements describe one grey axial CT slice, and render it."""
    _check_kind(elements, header)
    _check_photometric(elements)
    check_size(elements.whole("Columns"), elements.whole("Rows"))
    return _render(stored_pixels(elements), elements)


def _check_kind(elements: Elements, header: DicomHeader) -> None:
    """Refuse a file that is readable DICOM and no single axial CT slice."""
    if header.modality not in ("CT", "OT", ""):
        received = OTHER_MODALITIES.get(header.modality, "another modality")
        raise ScanError(f"{EXPECTED}, received {received}; send a slice of a chest CT.")
    elements.decimal("NumberOfFrames")  # refuses what is not a number
    if header.frames > 1:
        raise ScanError(
            f"{EXPECTED}, received a multi-frame file; export the slices as single-frame files."
        )
    if elements.pixel_data_at is None:
        raise ScanError(
            f"{EXPECTED}, received a file without pixel data or cut short before it; "
            "send the slice's own file, whole."
        )
    if b"LOCALIZER" in elements.raw["ImageType"]:
        raise ScanError(
            f"{EXPECTED}, received a localizer (scout view); send an axial slice of the series."
        )
    degrees = header.degrees_off_axial
    if degrees is not None and degrees > MAX_DEGREES_OFF_AXIAL:
        raise ScanError(
            f"Expected an axial CT slice, received one whose normal is {degrees:.0f} degrees off "
            "the body's axis (a coronal or sagittal reformat, for one); send an axial slice."
        )


def _check_photometric(elements: Elements) -> None:
    """Refuse colour, and a file that does not say whether it is grey."""
    photometric = elements.text("PhotometricInterpretation")
    samples = elements.whole("SamplesPerPixel")
    if not photometric:
        raise ScanError(
            f"{EXPECTED}, received one without PhotometricInterpretation, so whether its pixels "
            "are inverted is unknown; export the slice again."
        )
    if samples != 1 or photometric not in GREY_KINDS:
        raise ScanError(
            f"{EXPECTED}, received a colour picture; send the original slice, not a colour capture."
        )


def _render(pixels: StoredPixels, elements: Elements) -> NDArray[np.uint8]:
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
        grey = to_8_bit(np.take(values, pixels.codes))
        return 255 - grey if inverted else grey
    return np.asarray(np.take(table, pixels.codes))


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
            f"{EXPECTED} with Rescale Slope and Rescale Intercept, received one without Rescale "
            f"{' and '.join(missing)}, so its Hounsfield units are unknown; export the original "
            "slice."
        )
    if slope is not None and slope != 0 and abs(slope) < 1 / MAX_SLOPE:
        slope = 2 * MAX_SLOPE  # as far from any CT's as what is too large
    _within(slope, MAX_SLOPE, "RescaleSlope")
    return slope, _within(intercept, MAX_OFFSET, "RescaleIntercept")


def _within(value: float | None, limit: float, keyword: str) -> float | None:
    if value is not None and abs(value) > limit:
        raise ScanError(
            f"{EXPECTED}, received one whose {keyword} is a number that no CT has; "
            "export the slice again."
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
