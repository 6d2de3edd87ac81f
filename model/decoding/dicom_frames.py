"""Compressed frames of DICOM: found, described before a decoder runs, and decompressed."""

from __future__ import annotations

import contextlib
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import uid

from .dicom_elements import Elements, pixel_value
from .errors import ScanError
from .jpeg import check_scans, cut_short, may_be_filled_in, read_jpeg, with_more_code
from .jpeg_2000 import START as JPEG_2000_START
from .jpeg_2000 import read_jpeg_2000, size_of

JPEG = (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLossless, uid.JPEGLosslessSV1)
JPEG_LS = (uid.JPEGLSLossless, uid.JPEGLSNearLossless)
JPEG_2000 = (
    uid.JPEG2000Lossless,
    uid.JPEG2000,
    uid.HTJ2KLossless,
    uid.HTJ2KLosslessRPCL,
    uid.HTJ2K,
)
ENCAPSULATED = (*JPEG, *JPEG_LS, *JPEG_2000, uid.RLELossless)
ITEM, SEQUENCE_END = 0xE000FFFE, 0xE0DDFFFE  # PS3.5 A.4, as little-endian words
MAX_FRAGMENTS = 10_000


@dataclass(frozen=True)
class Coded:
    """How the codestream of a compressed frame codes a value."""

    frame: bytes
    bits: int
    is_signed: bool | None  # None where the codestream does not say
    decoding_bytes: int


def _fragments(value: memoryview) -> bytes:
    """Join the fragments of the one frame, PS3.5 A.4."""
    fragments, position = [], 0
    for _ in range(MAX_FRAGMENTS):
        if len(value) < position + 8:
            break
        tag, length = struct.unpack_from("<II", value, position)
        if tag == SEQUENCE_END:
            break
        if tag != ITEM:
            raise _mismatch()
        fragments.append(value[position + 8 : position + 8 + length])
        position += 8 + length
    return b"".join(fragments[1:])  # the first is the table of offsets


def coded_frame(elements: Elements, shape: tuple[int, int], allocated: int) -> Coded:
    """Find the codestream of a compressed frame and check what it says of itself."""
    value, _ = pixel_value(elements, elements.body)
    frame = _fragments(value)
    pixels = shape[0] * shape[1]
    if elements.transfer_syntax == uid.RLELossless:
        return Coded(frame, allocated, None, pixels * allocated // 8)
    if elements.transfer_syntax in JPEG_2000:
        frame = frame[max(frame.find(JPEG_2000_START), 0) :]  # some writers keep the JP2 wrapper
        if size_of(frame) != shape:
            raise _mismatch()
        coded = read_jpeg_2000(frame)
        if coded.precision_bits > 16:
            raise _mismatch()
        return Coded(frame, coded.precision_bits, coded.is_signed or None, coded.decoding_bytes)
    jpeg = read_jpeg(frame)
    if jpeg is None or (jpeg.rows, jpeg.columns, jpeg.components) != (*shape, 1):
        raise _mismatch()
    # Without its end CharLS 2.4 searches for seconds, and libjpeg makes the rest of the slice up.
    # What follows the end is padding to an even length, of any value.
    if jpeg.end is None or jpeg.scans == 0:
        raise ScanError(
            "damaged",
            "Expected compressed pixels with an end-of-image marker, received ones that are cut "
            "short; send the DICOM file again.",
        )
    check_scans(jpeg)
    cost = 4 * pixels + jpeg.coefficient_bytes
    return Coded(frame[: jpeg.end], jpeg.precision_bits, None, cost)


def decompressed(
    frame: bytes, transfer_syntax: str, shape: tuple[int, int], allocated: int, bits: int
) -> NDArray[np.uint8 | np.uint16]:
    """Decode one compressed frame to unsigned words, whatever their sign."""
    import imagecodecs  # only compressed slices need it

    if transfer_syntax == uid.RLELossless:
        dtype = np.dtype(f"<u{allocated // 8}")
        size_bytes = shape[0] * shape[1] * allocated // 8
        decoded: bytes | bytearray = b""
        for padding in range(3):  # bytes of any value, which may read as a code
            with contextlib.suppress(RuntimeError):
                code = frame[: len(frame) - padding]
                decoded = imagecodecs.dicomrle_decode(code, dtype, out=size_bytes)
                break
        return np.frombuffer(decoded, dtype).reshape(shape)
    if transfer_syntax in JPEG_2000:
        codes = np.asarray(imagecodecs.jpeg2k_decode(frame))
    elif transfer_syntax in JPEG_LS:
        codes = np.asarray(imagecodecs.jpegls_decode(frame))
    else:
        codes = np.asarray(imagecodecs.jpeg8_decode(frame))
        if codes.ndim == 2 and may_be_filled_in(codes, {2 ** (bits - 1)}):
            more = np.asarray(imagecodecs.jpeg8_decode(with_more_code(frame, len(frame))))
            if not np.array_equal(codes, more):
                raise cut_short()
    if codes.shape != shape or codes.dtype.kind not in "iu" or codes.itemsize > 2:
        raise _mismatch()
    return codes.view(f"u{codes.itemsize}")


def _mismatch() -> ScanError:
    """Return the error for pixels that are not what the elements say."""
    return ScanError(
        "header_mismatch",
        "Expected compressed pixels of one grey slice with the DICOM file's own Rows and Columns, "
        "received others; export the slice again.",
    )
