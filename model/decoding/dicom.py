"""Read one CT slice from a DICOM file as the grey levels a radiologist sees in a lung window.

Only the elements named in `ELEMENTS` and `HEADER_ELEMENTS` and the transfer syntax are read, from
their raw bytes, and no message quotes text from the file, so no patient attribute can reach a row,
a log or an error.

The order is the standard's (PS3.4 N.2): stored values, rescale to Hounsfield units, window, and
inversion when the photometric interpretation is MONOCHROME1. A file that says it is of another
modality than CT is refused, because a lung window means nothing there. So is a CT without a
rescale. Secondary captures ("OT", or no modality and no rescale) have no Hounsfield units: they
get the window in the file or, without one, are read as a plain picture of the same grey levels.
"""

from __future__ import annotations

import io
import math
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from .decoded import Decoded
from .dicom_header import HEADER_ELEMENTS, header_of
from .dicom_pixels import COMPRESSED, stored_codes
from .errors import MAX_PIXELS, ScanError, check_size
from .grey_levels import to_8_bit, window
from .quiet import quiet_decoders

PREAMBLE_BYTES = 128
EXPECTED = "Expected one CT slice as DICOM"
NUMBERS = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored")
ELEMENTS = (
    *NUMBERS,
    "PixelRepresentation",
    "PhotometricInterpretation",
    "NumberOfFrames",
    "RescaleSlope",
    "RescaleIntercept",
    "WindowCenter",
    "WindowWidth",
)
TRANSFER_SYNTAX = Tag("TransferSyntaxUID")
PIXEL_DATA = Tag("PixelData")
TAGS = {keyword: BaseTag(Tag(keyword)) for keyword in (*ELEMENTS, *HEADER_ELEMENTS)}
WANTED = [*TAGS.values(), PIXEL_DATA]
MAX_INFLATED_BYTES = 4 * MAX_PIXELS
UNCOMPRESSED = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
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


@dataclass(frozen=True)
class Elements:
    """Raw values of the elements that are read, by keyword, in the file's byte order."""

    raw: dict[str, bytes]
    pixels: RawDataElement | None
    transfer_syntax: str
    little_endian: bool

    def text(self, keyword: str) -> str:
        """Return the first value of a text element, or ''."""
        first = self.raw.get(keyword, b"").decode("ascii", "replace").split("\\")[0]
        return first.strip(" \0")

    def whole(self, keyword: str) -> int:
        """Return an unsigned 16-bit element (VR US), refusing a file that lacks it."""
        value = self.raw.get(keyword, b"")
        if len(value) < 2:
            raise ScanError(
                f"{EXPECTED}, received one without a valid {keyword}; export the slice again."
            )
        return int.from_bytes(value[:2], "little" if self.little_endian else "big")

    def decimal(self, keyword: str) -> float | None:
        """Return the first value of a decimal or integer string, None where there is none."""
        text = self.text(keyword)
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise ScanError(
                f"{EXPECTED}, received one whose {keyword} is not a number; export the slice again."
            )
        return value


def is_dicom(data: bytes) -> bool:
    """Tell DICOM from its first bytes, with or without the 128-byte preamble."""
    if data[PREAMBLE_BYTES : PREAMBLE_BYTES + 4] == b"DICM":
        return True
    group, element, vr = data[:2], data[2:4], data[4:6]
    if group in (b"\x02\0", b"\x08\0"):
        explicit = vr.isalpha() and vr.isupper()
        # Without a VR, a length follows; a first element is never long.
        return len(data) > 8 and element[1] == 0 and (explicit or data[5:8] == b"\0\0\0")
    return group == b"\0\x08" and element[:1] == b"\0" and vr.isalpha() and vr.isupper()


def decode_dicom(data: bytes) -> Decoded:
    """Decode a DICOM file to grey levels in a lung window.

    Returns:
        Grey levels uint8 0-255, shape (Rows, Columns), 0 is black; and the header.

    Raises:
        ScanError: when it is not one grey CT slice that can be decoded.
    """
    # A ScanError raised after the handler has no cause or context whose text could quote the file.
    try:
        with quiet_decoders():
            elements = _read_elements(data)
            grey = _grey(elements)
            height, width = grey.shape
            mode = elements.text("PhotometricInterpretation")
            return Decoded(grey, width, height, mode, "DICOM", header_of(elements.raw))
    except (ScanError, ImportError):  # a decoder that is not installed is no fault of the file
        raise
    except Exception:  # noqa: S110 - pydicom raises nearly every type on damaged bytes
        pass
    raise ScanError(
        f"{EXPECTED}, received {len(data)} bytes of one that is damaged or cut short; "
        "send it again."
    )


def _read_elements(data: bytes) -> Elements:
    """Read the few elements that pixels need, skipping over all others unread."""
    stream = io.BytesIO(data)
    if data[PREAMBLE_BYTES : PREAMBLE_BYTES + 4] == b"DICM":
        stream.seek(PREAMBLE_BYTES + 4)
    meta = read_dataset(
        stream,
        is_implicit_VR=False,
        is_little_endian=True,
        stop_when=lambda tag, _vr, _length: tag >> 16 != 2,
        specific_tags=[TRANSFER_SYNTAX],
    )
    syntax: str = _raw(meta, TRANSFER_SYNTAX).decode("ascii", "replace").strip(" \0")
    syntax = syntax or _guess_syntax(data[stream.tell() :][:8])
    if syntax == DeflatedExplicitVRLittleEndian:
        stream = _inflate(data[stream.tell() :])
    elif syntax not in (*UNCOMPRESSED, *COMPRESSED):
        raise ScanError(
            f"{EXPECTED}, received a transfer syntax that is not supported (video, for one); "
            "export the slice uncompressed or as lossless JPEG 2000."
        )
    little_endian = syntax != ExplicitVRBigEndian
    dataset = read_dataset(
        stream,
        is_implicit_VR=syntax == ImplicitVRLittleEndian,
        is_little_endian=little_endian,
        stop_when=lambda tag, _vr, _length: tag > PIXEL_DATA,
        specific_tags=WANTED,
    )
    pixels = dataset.get_item(PIXEL_DATA)
    return Elements(
        raw={keyword: _raw(dataset, tag) for keyword, tag in TAGS.items()},
        pixels=pixels if isinstance(pixels, RawDataElement) else None,
        transfer_syntax=syntax,
        little_endian=little_endian,
    )


def _raw(dataset: Dataset, tag: BaseTag) -> bytes:
    """Return an element's bytes without converting them, b'' where it is missing or a sequence."""
    element = dataset.get_item(tag)
    value = element.value if isinstance(element, RawDataElement) else None
    return value if isinstance(value, bytes) else b""


def _guess_syntax(start: bytes) -> str:
    """Guess the transfer syntax of a file that does not say, from its first element."""
    if not (start[4:6].isalpha() and start[4:6].isupper()):
        return str(ImplicitVRLittleEndian)
    return str(ExplicitVRBigEndian if start[:1] == b"\0" else ExplicitVRLittleEndian)


def _inflate(deflated: bytes) -> io.BytesIO:
    """Inflate the body of a deflated file (PS3.5 A.5), to no more than the largest slice needs."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    body = inflater.decompress(deflated, MAX_INFLATED_BYTES)
    if inflater.unconsumed_tail:
        raise ScanError(
            f"{EXPECTED}, received one that inflates to over {MAX_INFLATED_BYTES // 10**6} MB; "
            "export the slice uncompressed."
        )
    return io.BytesIO(body)


def _grey(elements: Elements) -> NDArray[np.uint8]:
    """Check that the elements describe one grey CT slice, and render it."""
    _check_kind(elements)
    rows, columns, samples, allocated, bits = (elements.whole(name) for name in NUMBERS)
    photometric = elements.text("PhotometricInterpretation")
    if samples != 1 or photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise ScanError(
            f"{EXPECTED}, received a colour picture; send the original slice, not a colour capture."
        )
    check_size(columns, rows)
    if allocated not in (8, 16) or not 1 <= bits <= allocated or elements.pixels is None:
        raise ScanError(
            f"{EXPECTED} of 8 or 16 bits, received {allocated} bits allocated and {bits} stored; "
            "export the slice again."
        )
    codes = stored_codes(
        elements.pixels,
        elements.transfer_syntax,
        (rows, columns),
        allocated,
        little_endian=elements.little_endian,
    )
    levels = np.arange(2**bits)
    if elements.whole("PixelRepresentation") == 1:
        levels = np.where(levels < 2 ** (bits - 1), levels, levels - 2**bits)
    grey = _render(codes & (2**bits - 1), levels, elements)
    return 255 - grey if photometric == "MONOCHROME1" else grey


def _check_kind(elements: Elements) -> None:
    """Refuse a file that is readable DICOM and no single axial CT slice."""
    modality = elements.text("Modality")
    if modality not in ("CT", "OT", ""):
        received = OTHER_MODALITIES.get(modality, "another modality")
        raise ScanError(f"{EXPECTED}, received {received}; send a slice of a chest CT.")
    if (elements.decimal("NumberOfFrames") or 1) > 1:
        raise ScanError(
            f"{EXPECTED}, received a multi-frame file; export the slices as single-frame files."
        )
    if elements.pixels is None:
        raise ScanError(
            f"{EXPECTED}, received a file without pixel data or cut short before it; "
            "send the slice's own file, whole."
        )
    if b"LOCALIZER" in elements.raw["ImageType"]:
        raise ScanError(
            f"{EXPECTED}, received a localizer (scout view); send an axial slice of the series."
        )


def _render(
    codes: NDArray[np.uint16], levels: NDArray[np.int64], elements: Elements
) -> NDArray[np.uint8]:
    """Turn stored codes to grey levels.

    Args:
        codes: unsigned, shape (Rows, Columns), each an index into `levels`.
        levels: the stored value that each code stands for.
    """
    slope, intercept = elements.decimal("RescaleSlope"), elements.decimal("RescaleIntercept")
    modality = elements.text("Modality")
    if modality == "CT" and (slope is None or intercept is None or slope == 0):
        raise ScanError(
            f"{EXPECTED} with Rescale Slope and Rescale Intercept, received one without, so its "
            "Hounsfield units are unknown; export the original slice."
        )
    rescaled = levels * (1.0 if slope is None else slope) + (intercept or 0.0)
    if modality != "OT" and slope is not None and intercept is not None:
        return window(rescaled)[codes]
    centre, width = elements.decimal("WindowCenter"), elements.decimal("WindowWidth")
    if centre is not None and width is not None:
        return window(rescaled, centre, width)[codes]
    return to_8_bit(levels.astype(np.uint16)[codes] if levels.min() == 0 else levels[codes])
