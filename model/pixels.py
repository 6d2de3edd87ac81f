"""The pixels that a slice is scored from, for those who want to look at them."""

from __future__ import annotations

from typing import Any

from .decoding.dicom import decode_hounsfield, is_dicom
from .decoding.pictures import picture_kind
from .decoding.scan_file import DicomHeader, decode, scan_bytes

HOUNSFIELD, GREY = "HU", "grey"


def slice_pixels(image: object) -> dict[str, Any]:
    """Decode a slice as scoring does.

    Args:
        image: the bytes of a file, or base64 text of them.

    Returns:
        `values`: int16 Hounsfield units of a CT slice as DICOM, else uint8 grey levels as the
        model sees them; shape (height, width), upright. `unit`: "HU" or "grey". `inverted`:
        whether low Hounsfield units are to be shown white. `spacing_mm`: between rows and between
        columns, or None. `position_mm`: along the series, or None. `series`: or None.

    Raises:
        ScanError: what cannot be scored has no pixels either.
    """
    data = scan_bytes(image)
    if (data[128:132] == b"DICM" or picture_kind(data) is None) and is_dicom(data):
        units = decode_hounsfield(data)
        if units is not None:
            found = {"values": units.values, "unit": HOUNSFIELD, "inverted": units.inverted}
            return found | _where(units.header)
    decoded = decode(data)
    return {"values": decoded.grey, "unit": GREY, "inverted": False} | _where(decoded.header)


def _where(header: DicomHeader | None) -> dict[str, Any]:
    header = header or DicomHeader()
    return {
        "spacing_mm": header.pixel_spacing_mm,
        "position_mm": header.position_along_normal_mm,
        "series": header.series_uid or None,
    }
