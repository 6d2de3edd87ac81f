"""Decode a scan's file to grey levels: the one decoder of training, evaluation and serving."""

from __future__ import annotations

import base64
import binascii
import contextlib

import numpy as np
from numpy.typing import NDArray

from .decoded import Decoded, DicomHeader
from .errors import ScanError
from .file_kinds import content_name
from .pictures import decode_picture, picture_kind

__all__ = [
    "Decoded",
    "DicomHeader",
    "ScanError",
    "decode",
    "decode_grey",
    "read_header",
    "scan_bytes",
]

ACCEPTED = "a chest CT slice as PNG, JPEG, BMP, TIFF, WebP or DICOM"


def scan_bytes(image: object) -> bytes:
    """Return the bytes of a scan's file.

    Args:
        image: the bytes, or base64 text of them; line breaks, a `data:...;base64,` prefix, the
            URL-safe alphabet and missing padding are tolerated.

    Raises:
        ScanError: when it is missing, empty, of another type or not base64.
    """
    if isinstance(image, bytes | bytearray | memoryview):
        data = bytes(image)
    elif isinstance(image, str):
        data = _base64_bytes(image)
    elif image is None or (isinstance(image, float) and np.isnan(image)):
        data = b""
    else:
        raise ScanError(
            f"Expected the bytes of a scan's file or base64 text of them, received a value of type "
            f"{type(image).__name__}; send the file's content."
        )
    if not data:
        raise ScanError(f"Expected {ACCEPTED}, received nothing; send the file's content.")
    return data


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
        f"Expected {ACCEPTED}, received {content_name(data)}; export the slice as PNG or DICOM."
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


def _base64_bytes(text: str) -> bytes:
    """Decode base64 text as senders really write it."""
    with contextlib.suppress(ValueError):
        return base64.b64decode(text, validate=True)  # most of it: as RFC 4648 has it
    if text.lstrip()[:5].lower() == "data:":
        text = text.partition(",")[2]
    compact = "".join(text.split()).rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ScanError(
            f"Expected base64 text of a scan's file, received {len(text)} characters that are not "
            "base64; encode the file's content, not its name."
        ) from None
