"""Decompress the pixels of one DICOM frame, after checking what the codestream says of itself."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray
from pydicom import uid
from pydicom.dataelem import RawDataElement
from pydicom.encaps import get_frame

from .errors import ScanError

JPEG = (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLossless, uid.JPEGLosslessSV1)
JPEG_LS = (uid.JPEGLSLossless, uid.JPEGLSNearLossless)
JPEG_2000 = (
    uid.JPEG2000Lossless,
    uid.JPEG2000,
    uid.HTJ2KLossless,
    uid.HTJ2KLosslessRPCL,
    uid.HTJ2K,
)
COMPRESSED = (*JPEG, *JPEG_LS, *JPEG_2000, uid.RLELossless)
JPEG_2000_START = b"\xff\x4f\xff\x51"  # SOC, SIZ: ISO/IEC 15444-1 A.4.1, A.5.1
JPEG_END = b"\xff\xd9"  # EOI, the same in JPEG and JPEG-LS
# Start-of-frame markers, ISO/IEC 10918-1 table B.1 and, the last, ISO/IEC 14495-1 C.1.
JPEG_FRAME_MARKERS = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})


def stored_codes(
    element: RawDataElement,
    transfer_syntax: str,
    shape: tuple[int, int],
    bits_allocated: int,
    *,
    little_endian: bool,
) -> NDArray[np.uint16]:
    """Return the stored bits of each pixel as unsigned 16-bit numbers, signed or not.

    Args:
        element: Pixel Data as it stands in the file.
        transfer_syntax: how it is encoded.
        shape: (Rows, Columns), already checked to be of a sensible size.
        bits_allocated: 8 or 16.
        little_endian: byte order of uncompressed pixels.

    Raises:
        ScanError: when the pixels are fewer or other than the file's elements say.
    """
    data = element.value if isinstance(element.value, bytes) else b""
    if transfer_syntax in COMPRESSED:
        codes = _decompress(
            get_frame(data, 0, number_of_frames=1), transfer_syntax, shape, bits_allocated
        )
        if codes.shape != shape or codes.dtype.kind not in "iu":
            raise _mismatch()
        return codes.astype(np.uint16)  # keeps the low 16 bits, whatever the sign
    expected_bytes = shape[0] * shape[1] * bits_allocated // 8
    if len(data) < expected_bytes:
        raise ScanError(
            f"Expected {expected_bytes} bytes of pixels as the DICOM file's Rows and Columns say, "
            f"received {len(data)}; the file is cut short, so send it again."
        )
    if bits_allocated == 8:
        octets = np.frombuffer(data, np.uint8)
        if not little_endian and element.VR == "OW":  # words of two pixels, PS3.5 8.1.2
            octets = octets[: len(octets) // 2 * 2].reshape(-1, 2)[:, ::-1].ravel()
        return octets[:expected_bytes].reshape(shape).astype(np.uint16)
    words = np.frombuffer(data, "<u2" if little_endian else ">u2", count=shape[0] * shape[1])
    return words.reshape(shape).astype(np.uint16)


def _decompress(
    frame: bytes, transfer_syntax: str, shape: tuple[int, int], bits_allocated: int
) -> NDArray[np.generic]:
    """Decode one compressed frame, shape as its codestream has it."""
    import imagecodecs  # only compressed slices need it

    if transfer_syntax == uid.RLELossless:
        size_bytes = shape[0] * shape[1] * bits_allocated // 8
        dtype = np.dtype(f"<u{bits_allocated // 8}")
        decoded = imagecodecs.dicomrle_decode(frame, dtype, out=size_bytes)
        return np.frombuffer(decoded, dtype).reshape(shape)
    if transfer_syntax in JPEG_2000:
        frame = frame[max(frame.find(JPEG_2000_START), 0) :]  # some writers keep the JP2 wrapper
        if _jpeg_2000_size(frame) != shape:
            raise _mismatch()
        return np.asarray(imagecodecs.jpeg2k_decode(frame))
    if _jpeg_size(frame) != shape:
        raise _mismatch()
    # Without its end CharLS 2.4 searches for seconds, and libjpeg makes the rest of the slice up.
    if not frame.rstrip(b"\0").endswith(JPEG_END):
        raise ScanError(
            "Expected compressed pixels with an end-of-image marker, received ones that are cut "
            "short; send the DICOM file again."
        )
    if transfer_syntax in JPEG_LS:
        return np.asarray(imagecodecs.jpegls_decode(frame))
    return np.asarray(imagecodecs.jpeg8_decode(frame))


def _jpeg_2000_size(codestream: bytes) -> tuple[int, int]:
    """Return (rows, columns) of a one-component codestream's SIZ marker, ISO/IEC 15444-1 A.5.1."""
    if not codestream.startswith(JPEG_2000_START):
        raise _mismatch()
    right, bottom, left, top = struct.unpack_from(">4I", codestream, 8)
    (components,) = struct.unpack_from(">H", codestream, 40)
    return (bottom - top, right - left) if components == 1 else (0, 0)


def _jpeg_size(codestream: bytes) -> tuple[int, int]:
    """Return (rows, columns) of a one-component JPEG or JPEG-LS frame header."""
    position = 2
    while codestream[position] == 0xFF:
        marker = codestream[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        length, _, rows, columns, components = struct.unpack_from(
            ">HBHHB", codestream, position + 2
        )
        if marker in JPEG_FRAME_MARKERS:
            return (rows, columns) if components == 1 else (0, 0)
        position += 2 + length
    raise _mismatch()


def _mismatch() -> ScanError:
    return ScanError(
        "Expected compressed pixels of one grey slice with the DICOM file's own Rows and Columns, "
        "received others; export the slice again."
    )
