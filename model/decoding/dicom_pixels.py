"""The stored values of one DICOM frame, of any transfer syntax."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import uid

from .dicom_elements import EXPECTED, Elements, inflate, pixel_value
from .dicom_frames import ENCAPSULATED, coded_frame, decompressed
from .errors import ScanError
from .limits import BUDGET

UNCOMPRESSED = (
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
)
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
            "invalid_element",
            f"{EXPECTED} of 8 or 16 bits, received {allocated} bits allocated and {bits} stored; "
            "export the slice again.",
        )
    shape = (elements.whole("Rows"), elements.whole("Columns"))
    pixels = shape[0] * shape[1]
    if elements.transfer_syntax in ENCAPSULATED:
        coded = coded_frame(elements, shape, allocated)
        with BUDGET.reserve(pixels * BYTES_PER_PIXEL + coded.decoding_bytes):
            codes = decompressed(
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
                "invalid_element",
                f"{EXPECTED}, received one whose HighBit does not fit its BitsStored and "
                "BitsAllocated; export the slice again.",
            )
        codes = _uncompressed(elements, shape, allocated)
    else:
        raise ScanError(
            "unsupported_encoding",
            f"{EXPECTED}, received a transfer syntax that is not supported (video, for one); "
            "export the slice uncompressed or as lossless JPEG 2000.",
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
            "damaged",
            f"Expected {expected_bytes} bytes of pixels as the DICOM file's Rows and Columns say, "
            f"received {len(data)}; the file is cut short, so send it again.",
        )
    if allocated == 8:
        octets = np.frombuffer(data, np.uint8)
        if not elements.little_endian and vr == b"OW":  # words of two pixels, PS3.5 8.1.2
            octets = octets[: len(octets) // 2 * 2].reshape(-1, 2)[:, ::-1].ravel()
        return octets[:expected_bytes].reshape(shape)
    words = np.frombuffer(data[:expected_bytes], "<u2" if elements.little_endian else ">u2")
    return words.reshape(shape).astype(np.uint16, copy=False)
