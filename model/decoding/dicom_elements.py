"""Read the few elements of a DICOM file that a slice needs, as raw bytes, without its pixels.

pydicom walks the file; only the elements named here are kept, and their bytes are converted here.
pydicom's own conversion quotes values it cannot read in warnings, log lines and exceptions, which
is how a patient's name would reach a log (docs/adr/0006-dicom.md).
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset, read_sequence_item
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from .dicom_header import HEADER_ELEMENTS
from .errors import ScanError

PREAMBLE_BYTES = 128
EXPECTED = "Expected one CT slice as DICOM"
PIXEL_ELEMENTS = (
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PhotometricInterpretation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "RescaleSlope",
    "RescaleIntercept",
    "WindowCenter",
    "WindowWidth",
)
TAGS = {keyword: BaseTag(Tag(keyword)) for keyword in (*PIXEL_ELEMENTS, *HEADER_ELEMENTS)}
TRANSFER_SYNTAX = Tag("TransferSyntaxUID")
PIXEL_DATA = Tag("PixelData")
UNDEFINED_LENGTH = 0xFFFFFFFF
LONG_VRS = (b"OB", b"OW", b"UN", b"OD", b"OF", b"OL", b"OV")  # PS3.5 7.1.2: four bytes of length
# An enhanced slice has these in functional groups, PS3.3 A.38.1.4; an element's own group only.
GROUPS = (Tag("SharedFunctionalGroupsSequence"), Tag("PerFrameFunctionalGroupsSequence"))
MACROS = {
    Tag("PlaneOrientationSequence"): ("ImageOrientationPatient",),
    Tag("PlanePositionSequence"): ("ImagePositionPatient",),
    Tag("PixelMeasuresSequence"): ("PixelSpacing", "SliceThickness"),
    Tag("PixelValueTransformationSequence"): ("RescaleSlope", "RescaleIntercept"),
    Tag("FrameVOILUTSequence"): ("WindowCenter", "WindowWidth"),
    Tag("CTReconstructionSequence"): ("ConvolutionKernel",),
}
WANTED = [*TAGS.values(), *GROUPS]
MAX_HEADER_BYTES = 2**22  # what is inflated of a deflated file to find its elements
MAX_READS = 200_000  # of a header: about two an element; a header of a thousand frames has 10^5


@dataclass(frozen=True)
class Elements:
    """Raw values of the elements that are read, by keyword, in the file's byte order.

    Attributes:
        raw: a value per keyword of TAGS, b'' where the file has none.
        body: the data set, inflated up to its pixels where the file is deflated.
        pixel_data_at: where in `body` the element Pixel Data starts, None without one.
        deflated: the deflated data set; b'' for other files.
    """

    raw: dict[str, bytes]
    body: memoryview
    pixel_data_at: int | None
    deflated: memoryview
    transfer_syntax: str
    little_endian: bool

    def text(self, keyword: str) -> str:
        """Return the first value of a text element, or ''."""
        first = self.raw.get(keyword, b"").decode("ascii", "replace").split("\\")[0]
        return first.strip(" \0")

    def whole(self, keyword: str) -> int:
        """Return an unsigned 16-bit element (VR US), refusing a file that lacks it."""
        value = self.optional_whole(keyword)
        if value is None:
            raise ScanError(
                "missing_element",
                f"{EXPECTED}, received one without a valid {keyword}; export the slice again.",
            )
        return value

    def optional_whole(self, keyword: str) -> int | None:
        """Return an unsigned 16-bit element, None where there is none."""
        value = self.raw.get(keyword, b"")
        if len(value) < 2:
            return None
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
                "invalid_element",
                f"{EXPECTED}, received one whose {keyword} is not a number; export the slice "
                "again.",
            )
        return value


class _CountedStream(io.BytesIO):
    """Bytes that can be read a limited number of times, which bounds the time of a walk."""

    reads_left = MAX_READS

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads_left -= 1
        if self.reads_left < 0:
            raise ScanError(
                "too_costly",
                f"{EXPECTED}, received one of over {MAX_READS} parts before its pixels; "
                "export the slice without private elements.",
            )
        return super().read(size)


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


def read_elements(data: bytes) -> Elements:
    """Read the elements that a slice needs, skipping all others, up to the pixels.

    Args:
        data: a file, or its start up to the element Pixel Data.

    Raises:
        ScanError: the header is longer than any slice's.
        Exception: of nearly every type, from pydicom on damaged bytes; its text may quote them.
    """
    stream = _CountedStream(data)
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
    start = stream.tell()
    syntax = syntax or _guess_syntax(data[start : start + 8])
    body, deflated = memoryview(data)[start:], memoryview(b"")
    if syntax == DeflatedExplicitVRLittleEndian:
        body, deflated = memoryview(_inflated_start(body)), body
        stream, start = _CountedStream(body), 0
    implicit, little_endian = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
    found_pixels: list[bool] = []

    def is_past_the_header(tag: BaseTag, _vr: str | None, _length: int) -> bool:
        if int.__lt__(tag, PIXEL_DATA):  # the tags' own comparison takes 5 µs
            return False
        if int.__eq__(tag, PIXEL_DATA):
            found_pixels.append(True)
        return True

    def read(stop_when: Callable[[BaseTag, str | None, int], bool]) -> Dataset:
        return read_dataset(
            stream,
            is_implicit_VR=implicit,
            is_little_endian=little_endian,
            stop_when=stop_when,
            specific_tags=WANTED,
        )

    dataset = read(lambda tag, _vr, _length: int.__ge__(tag, GROUPS[0]))
    # The groups of several frames are many, and are not read.
    groups = Dataset() if _has_several_frames(dataset) else read(is_past_the_header)
    raw = {keyword: _raw(dataset, tag) for keyword, tag in TAGS.items()}
    _add_functional_groups(raw, groups, implicit, little_endian)
    pixel_data_at = stream.tell() - start if found_pixels else None
    return Elements(raw, body, pixel_data_at, deflated, syntax, little_endian)


def _has_several_frames(dataset: Dataset) -> bool:
    frames = _raw(dataset, TAGS["NumberOfFrames"]).strip(b" \0")
    return frames.isdigit() and int(frames[:9]) > 1


def inflate(deflated: memoryview, max_bytes: int) -> bytes:
    """Inflate the body of a deflated file (PS3.5 A.5), refusing one of more than `max_bytes`."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    body = inflater.decompress(deflated, max_bytes)
    if inflater.unconsumed_tail:
        raise ScanError(
            "too_costly",
            f"{EXPECTED}, received one that inflates to over {max_bytes / 1e6:.1f} MB, more than "
            "its Rows and Columns need; export the slice uncompressed.",
        )
    return body


def pixel_value(elements: Elements, body: memoryview) -> tuple[memoryview, bytes]:
    """Return what follows the tag, VR and length of Pixel Data, cut to its length, and the VR.

    The value is not copied. Where the length is undefined (fragments), it is all that follows.
    """
    at = elements.pixel_data_at
    assert at is not None  # noqa: S101 - callers refuse files without pixels first
    header = bytes(body[at : at + 12])
    order = "<" if elements.little_endian else ">"
    vr = header[4:6]
    if vr in LONG_VRS:
        (length,), start = struct.unpack(f"{order}I", header[8:12]), at + 12
    else:
        (length,), start = struct.unpack(f"{order}I", header[4:8]), at + 8
        vr = b"OW"
    value = body[start:] if length == UNDEFINED_LENGTH else body[start : start + length]
    return value, vr


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


def _inflated_start(deflated: memoryview) -> bytes:
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(deflated, MAX_HEADER_BYTES)


def _add_functional_groups(
    raw: dict[str, bytes], dataset: Dataset, implicit: bool, little_endian: bool
) -> None:
    """Fill in what the file's own level lacks from the groups of its first frame."""
    for tag in GROUPS:
        group = _first_item(dataset, tag, implicit, little_endian)
        if group is None:
            continue
        for macro, keywords in MACROS.items():
            item = _first_item(group, macro, implicit, little_endian)
            for keyword in keywords if item is not None else ():
                raw[keyword] = raw[keyword] or _raw(item, TAGS[keyword])


def _first_item(
    dataset: Dataset, tag: BaseTag, implicit: bool, little_endian: bool
) -> Dataset | None:
    """Return the first item of a sequence, None where there is none."""
    element = dataset.get_item(tag)
    if element is None:
        return None
    if isinstance(element, RawDataElement):
        if not element.value:
            return None
        return read_sequence_item(_CountedStream(element.value), implicit, little_endian, "iso8859")
    return element.value[0] if len(element.value) else None
