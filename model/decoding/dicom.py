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

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from .decoded import Decoded, DicomHeader
from .dicom_elements import EXPECTED, Elements, is_dicom, read_elements
from .dicom_header import header_of
from .dicom_pixels import StoredPixels, stored_pixels
from .dicom_render import hounsfield, render
from .errors import ScanError, check_size
from .quiet import quiet_decoders

__all__ = ["decode_dicom", "decode_hounsfield", "is_dicom", "read_dicom_header"]

T = TypeVar("T")

MAX_DEGREES_OFF_AXIAL = 20.0  # a gantry is tilted by less in chest CT; a reformat is at 90
SECONDARY_CAPTURES = "1.2.840.10008.5.1.4.1.1.7"  # and those of several frames below it, PS3.4 B.5
SCREENS = ("SCREEN", "DOSE", "PROTOCOL", "REPORT")  # in Image Type of pages among CT slices
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


@dataclass(frozen=True, eq=False)
class Hounsfield:
    """A CT slice in Hounsfield units.

    Attributes:
        values: int16, shape (Rows, Columns); padding is PADDING_HU.
        inverted: whether the file wants low values shown white (MONOCHROME1).
        header: of the file.
    """

    values: NDArray[np.int16] = field(repr=False)
    inverted: bool
    header: DicomHeader


def decode_dicom(data: bytes) -> Decoded:
    """Decode a DICOM file to grey levels in a lung window.

    Returns:
        Grey levels uint8 0-255, shape (Rows, Columns), 0 is black; and the header.

    Raises:
        ScanError: when it is not one grey axial CT slice that can be decoded.
    """

    def decoded(elements: Elements, header: DicomHeader) -> Decoded:
        grey = render(_checked_pixels(elements, header), elements)
        height, width = grey.shape
        mode = elements.text("PhotometricInterpretation")
        return Decoded(grey, width, height, mode, "DICOM", header)

    return _from_slice(data, decoded)


def decode_hounsfield(data: bytes) -> Hounsfield | None:
    """Decode a CT slice to Hounsfield units.

    Returns:
        None for a capture, which has none.

    Raises:
        ScanError: as `decode_dicom` does.
    """

    def decoded(elements: Elements, header: DicomHeader) -> Hounsfield | None:
        values = hounsfield(_checked_pixels(elements, header), elements)
        inverted = elements.text("PhotometricInterpretation") == "MONOCHROME1"
        return None if values is None else Hounsfield(values, inverted, header)

    return _from_slice(data, decoded)


def _from_slice(data: bytes, made: Callable[[Elements, DicomHeader], T]) -> T:
    """Return what is made of a file's elements; what is wrong with it becomes a ScanError."""
    # A ScanError raised after the handler has no cause or context whose text could quote the file.
    try:
        with quiet_decoders():
            elements = read_elements(data)
            return made(elements, header_of(elements.raw))
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
        "damaged",
        f"{EXPECTED}, received {len(data)} bytes of one that is damaged or cut short; "
        "send it again.",
    )


def _checked_pixels(elements: Elements, header: DicomHeader) -> StoredPixels:
    """Check that the elements describe one grey axial CT slice, and decode it."""
    _check_kind(elements, header)
    _check_photometric(elements)
    check_size(elements.whole("Columns"), elements.whole("Rows"))
    return stored_pixels(elements)


def _check_kind(elements: Elements, header: DicomHeader) -> None:
    """Refuse a file that is readable DICOM and no single axial CT slice."""
    if header.modality not in ("CT", "OT", ""):
        received = OTHER_MODALITIES.get(header.modality, "another modality")
        raise ScanError(
            "wrong_modality", f"{EXPECTED}, received {received}; send a slice of a chest CT."
        )
    elements.decimal("NumberOfFrames")  # refuses what is not a number
    if header.frames > 1:
        raise ScanError(
            "several_images",
            f"{EXPECTED}, received a multi-frame file; export the slices as single-frame files.",
        )
    if elements.pixel_data_at is None:
        raise ScanError(
            "no_pixels",
            f"{EXPECTED}, received a file without pixel data or cut short before it; "
            "send the slice's own file, whole.",
        )
    if b"LOCALIZER" in elements.raw["ImageType"]:
        raise ScanError(
            "localizer",
            f"{EXPECTED}, received a localizer (scout view); send an axial slice of the series.",
        )
    if header.modality == "CT" and header.orientation is None and _is_page(header):
        raise ScanError(
            "screen_capture",
            f"{EXPECTED}, received a screen capture (a dose page, for one); send an axial slice "
            "of the series.",
        )
    degrees = header.degrees_off_axial
    if degrees is not None and degrees > MAX_DEGREES_OFF_AXIAL:
        raise ScanError(
            "not_axial",
            f"Expected an axial CT slice, received one whose normal is {degrees:.0f} degrees off "
            "the body's axis (a coronal or sagittal reformat, for one); send an axial slice.",
        )


def _is_page(header: DicomHeader) -> bool:
    """Return whether a CT without a place in the body is a page that the scanner wrote."""
    uid, values = header.sop_class_uid, [value.upper() for value in header.image_type[1:]]
    captured = uid == SECONDARY_CAPTURES or uid.startswith(f"{SECONDARY_CAPTURES}.")
    return captured or any(screen in value for screen in SCREENS for value in values)


def _check_photometric(elements: Elements) -> None:
    """Refuse colour, and a file that does not say whether it is grey."""
    photometric = elements.text("PhotometricInterpretation")
    samples = elements.whole("SamplesPerPixel")
    if not photometric:
        raise ScanError(
            "missing_element",
            f"{EXPECTED}, received one without PhotometricInterpretation, so whether its pixels "
            "are inverted is unknown; export the slice again.",
        )
    if samples != 1 or photometric not in GREY_KINDS:
        raise ScanError(
            "colour",
            f"{EXPECTED}, received a colour picture; send the original slice, not a colour "
            "capture.",
        )
