"""Decode a scan's file to grey levels: the one decoder of training, evaluation and serving."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .decoded import Decoded, DicomHeader
from .errors import ScanError
from .file_kinds import ACCEPTED, content_name
from .pictures import decode_picture, picture_kind
from .scan_text import scan_bytes

__all__ = [
    "Decoded",
    "DicomHeader",
    "ScanError",
    "decode",
    "decode_grey",
    "read_header",
    "scan_bytes",
]


def decode(data: bytes) -> Decoded:
    """Decode a scan's file to grey levels at its own size, with what the file says of itself.

    Args:
        data: the file's bytes, see `scan_bytes`.

    Returns:
        Grey levels, uint8 0-255, shape (height, width), upright. Colours are weighed as ITU-R
        BT.601 does (Pillow's "L").

    Raises:
        ScanError: when the bytes are not one whole axial slice of a sensible size.
    """
    if data[128:132] != b"DICM":  # a DICOM file's preamble may pass for a TIFF
        kind = picture_kind(data)
        if kind is not None:
            return decode_picture(data, *kind)

    from .dicom import decode_dicom, is_dicom  # pydicom takes a while to import

    if is_dicom(data):
        return decode_dicom(data)
    raise ScanError(
        "unknown_format",
        f"Expected {ACCEPTED}, received {content_name(data)}; export the slice as PNG or DICOM.",
    )


def read_header(data: bytes) -> DicomHeader | None:
    """Read what a DICOM file says of itself, without decoding its pixels.

    Args:
        data: the file's bytes, or its start up to the pixels.

    Returns:
        The header, whether or not the file is an axial CT slice; None for what is not DICOM.

    Raises:
        ScanError: when the file is DICOM and damaged.
    """
    if data[128:132] != b"DICM" and picture_kind(data) is not None:
        return None

    from .dicom import is_dicom, read_dicom_header  # pydicom takes a while to import

    return read_dicom_header(data) if is_dicom(data) else None


def decode_grey(data: bytes) -> NDArray[np.uint8]:
    """Return the grey levels of `decode` alone."""
    return decode(data).grey
