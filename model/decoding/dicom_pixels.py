"""The stored values of one DICOM frame, of any transfer syntax."""

from __future__ import annotations

import contextlib
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import uid

from .dicom_elements import EXPECTED, Elements, inflate, pixel_value
from .errors import ScanError
from .jpeg import check_scans, cut_short, may_be_filled_in, read_jpeg, with_more_code
from .jpeg_2000 import START as JPEG_2000_START
from .jpeg_2000 import read_jpeg_2000, size_of
from .limits import BUDGET

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
UNCOMPRESSED = (
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
)
ITEM, SEQUENCE_END = 0xE000FFFE, 0xE0DDFFFE  # PS3.5 A.4, as little-endian words
MAX_FRAGMENTS = 10_000
BYTES_PER_PIXEL = 4  # decoded words, grey levels, and one of them twice for a moment


@dataclass(frozen=True)
class Words:
    """Where the stored value lies in the word of a pixel.

    Attributes:
        word_bits: 8 or 16.
        bits: of the value.
        shift: bits of the word below the value.
        signed: whether the value may be negative.
    """

    word_bits: int
    bits: int
    shift: int
    signed: bool

    def whole(self) -> NDArray[np.int32]:
        """Return what each word stands for if all of it were the value."""
        words = np.arange(2**self.word_bits, dtype=np.int32)
        half = 2 ** (self.word_bits - 1)
        return np.asarray(np.where(words < half, words, words - 2 * half) if self.signed else words)

    def values(self) -> NDArray[np.int32]:
        """Return the stored value of each word."""
        words = np.arange(2**self.word_bits, dtype=np.int32)
        values = (words >> self.shift) & (2**self.bits - 1)
        half = 2 ** (self.bits - 1)
        return np.asarray(
            np.where(values < half, values, values - 2 * half) if self.signed else values
        )


@dataclass(frozen=True, eq=False)
class StoredPixels:
    """Pixels as the file stores them: a word each, uint8 or uint16, shape (Rows, Columns)."""

    codes: NDArray[np.uint8 | np.uint16]
    words: Words


@dataclass(frozen=True)
class Coded:
    """How the codestream of a compressed frame codes a value."""

    frame: bytes
    bits: int
    is_signed: bool | None  # None where the codestream does not say
    decoding_bytes: int


def stored_pixels(elements: Elements) -> StoredPixels:
    """Decode the pixels, within the budget of memory.

    Args:
        elements: of a file with pixels whose Rows and Columns are of a sensible size.

    Raises:
        ScanError: when the pixels are fewer or other than the file's elements say.
    """
    allocated, bits = elements.whole("BitsAllocated"), elements.whole("BitsStored")
    signed = elements.whole("PixelRepresentation") == 1
    high = elements.optional_whole("HighBit")
    high = bits - 1 if high is None else high
    if allocated not in (8, 16) or not 1 <= bits <= allocated:
        raise ScanError(
            f"{EXPECTED} of 8 or 16 bits, received {allocated} bits allocated and {bits} stored; "
            "export the slice again."
        )
    shape = (elements.whole("Rows"), elements.whole("Columns"))
    pixels = shape[0] * shape[1]
    if elements.transfer_syntax in ENCAPSULATED:
        coded = _codestream(elements, shape, allocated)
        with BUDGET.reserve(pixels * BYTES_PER_PIXEL + coded.decoding_bytes):
            codes = _decompressed(
                coded.frame, elements.transfer_syntax, shape, allocated, coded.bits
            )
        signed = signed if coded.is_signed is None else coded.is_signed
        if coded.bits <= bits:  # the codestream knows better than the elements
            bits, high = coded.bits, coded.bits - 1
        elif not bits <= high + 1 <= coded.bits:
            high = bits - 1
    elif elements.transfer_syntax in UNCOMPRESSED:
        if not bits <= high + 1 <= allocated:
            raise ScanError(
                f"{EXPECTED}, received one whose HighBit does not fit its BitsStored and "
                "BitsAllocated; export the slice again."
            )
        codes = _uncompressed(elements, shape, allocated)
    else:
        raise ScanError(
            f"{EXPECTED}, received a transfer syntax that is not supported (video, for one); "
            "export the slice uncompressed or as lossless JPEG 2000."
        )
    return StoredPixels(codes, Words(8 * codes.itemsize, bits, high + 1 - bits, signed))


def _uncompressed(
    elements: Elements, shape: tuple[int, int], allocated: int
) -> NDArray[np.uint8 | np.uint16]:
    needed = shape[0] * shape[1] * allocated // 8
    body = elements.body
    if elements.deflated:
        assert elements.pixel_data_at is not None  # noqa: S101
        limit = elements.pixel_data_at + needed + 2**16
        with BUDGET.reserve(limit + shape[0] * shape[1] * BYTES_PER_PIXEL):
            return _words(elements, memoryview(inflate(elements.deflated, limit)), shape, allocated)
    return _words(elements, body, shape, allocated)


def _words(
    elements: Elements, body: memoryview, shape: tuple[int, int], allocated: int
) -> NDArray[np.uint8 | np.uint16]:
    """Return a view of uncompressed pixels."""
    data, vr = pixel_value(elements, body)
    expected_bytes = shape[0] * shape[1] * allocated // 8
    if len(data) < expected_bytes:
        raise ScanError(
            f"Expected {expected_bytes} bytes of pixels as the DICOM file's Rows and Columns say, "
            f"received {len(data)}; the file is cut short, so send it again."
        )
    if allocated == 8:
        octets = np.frombuffer(data, np.uint8)
        if not elements.little_endian and vr == b"OW":  # words of two pixels, PS3.5 8.1.2
            octets = octets[: len(octets) // 2 * 2].reshape(-1, 2)[:, ::-1].ravel()
        return octets[:expected_bytes].reshape(shape)
    words = np.frombuffer(data[:expected_bytes], "<u2" if elements.little_endian else ">u2")
    return words.reshape(shape).astype(np.uint16, copy=False)


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
            raise mismatch()
        fragments.append(value[position + 8 : position + 8 + length])
        position += 8 + length
    return b"".join(fragments[1:])  # the first is the table of offsets


def _codestream(elements: Elements, shape: tuple[int, int], allocated: int) -> Coded:
    """Find the codestream of a compressed frame and check what it says of itself."""
    value, _ = pixel_value(elements, elements.body)
    frame = _fragments(value)
    pixels = shape[0] * shape[1]
    if elements.transfer_syntax == uid.RLELossless:
        return Coded(frame, allocated, None, pixels * allocated // 8)
    if elements.transfer_syntax in JPEG_2000:
        frame = frame[max(frame.find(JPEG_2000_START), 0) :]  # some writers keep the JP2 wrapper
        if size_of(frame) != shape:
            raise mismatch()
        coded = read_jpeg_2000(frame)
        if coded.precision_bits > 16:
            raise mismatch()
        return Coded(frame, coded.precision_bits, coded.is_signed or None, coded.decoding_bytes)
    jpeg = read_jpeg(frame)
    if jpeg is None or (jpeg.rows, jpeg.columns, jpeg.components) != (*shape, 1):
        raise mismatch()
    # Without its end CharLS 2.4 searches for seconds, and libjpeg makes the rest of the slice up.
    # What follows the end is padding to an even length, of any value.
    if jpeg.end is None or jpeg.scans == 0:
        raise ScanError(
            "Expected compressed pixels with an end-of-image marker, received ones that are cut "
            "short; send the DICOM file again."
        )
    check_scans(jpeg)
    cost = 4 * pixels + jpeg.coefficient_bytes
    return Coded(frame[: jpeg.end], jpeg.precision_bits, None, cost)


def _decompressed(
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
        raise mismatch()
    return codes.view(f"u{codes.itemsize}")


def mismatch() -> ScanError:
    """Return the error for pixels that are not what the elements say."""
    return ScanError(
        "Expected compressed pixels of one grey slice with the DICOM file's own Rows and Columns, "
        "received others; export the slice again."
    )
