"""What a JPEG or JPEG-LS codestream says of itself, read before a decoder runs.

Markers are those of ISO/IEC 10918-1 table B.1 and, for JPEG-LS, ISO/IEC 14495-1 C.1.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .errors import ScanError

START, END, SCAN = 0xD8, 0xD9, 0xDA
FRAMES = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})
PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
# In coded data 0xFF is followed by 0 (JPEG), by less than 0x80 (JPEG-LS) or by a restart marker.
MARKER = re.compile(rb"\xff+([\x80-\xcf\xd8-\xfe])")
# Where coded data ends early, libjpeg fills in blocks, or whole rows of a lossless JPEG, of half
# the range and only warns of it, which neither Pillow nor imagecodecs passes on. More code, put
# before the end, then shows in the picture.
FILLED_IN_PX = 4
MORE_CODE = b"\x5a\xa5\x3c\x12" * 16
MAX_SEGMENTS = 4096  # a colour profile has at most 255, a progressive picture about 40
MAX_SCANS = 100  # encoders write about 10, optimisers up to about 60
MAX_SCAN_SAMPLES = 5e8  # samples times scans: each scan visits each sample, some 2 ns


@dataclass(frozen=True)
class Jpeg:
    """A codestream's first frame.

    Attributes:
        rows, columns, components, precision_bits: of the frame header.
        is_progressive: whether it is coded in passes over all samples.
        scans: how many there are.
        end: where the codestream ends, behind its end-of-image marker; None without one.
    """

    rows: int
    columns: int
    components: int
    precision_bits: int
    is_progressive: bool
    scans: int
    end: int | None

    @property
    def coefficient_bytes(self) -> int:
        """Bytes that a decoder keeps of all samples when there are several scans."""
        samples = self.rows * self.columns * self.components
        return 2 * samples if self.is_progressive or self.scans > 1 else 0


def read_jpeg(data: bytes) -> Jpeg | None:
    """Read the markers of a codestream, None where it has no frame header.

    Raises:
        ScanError: more segments than any encoder writes.
    """
    frame: tuple[int, int, int, int, int] | None = None
    position, begun, in_scan = 2, False, 0
    for _ in range(MAX_SEGMENTS):
        found = MARKER.search(data, position)
        if found is None or len(data) < found.end() + 2:
            break
        marker, position = found[1][0], found.end()
        if marker == START:
            continue
        (length,) = struct.unpack_from(">H", data, position)
        if marker in FRAMES and frame is None and len(data) >= position + 8:
            frame = (marker, *struct.unpack_from(">BHHB", data, position + 2))
        begun = marker == SCAN
        in_scan = data[position + 2] if len(data) > position + 2 else 0
        position += max(length, 2)
        if begun or marker == END:
            break
    else:
        raise ScanError(
            "too_costly",
            f"Expected a JPEG of at most {MAX_SEGMENTS} segments, received one of more; "
            "export it again without metadata.",
        )
    if frame is None:
        return None
    kind, precision, rows, columns, components = frame
    is_progressive = kind in PROGRESSIVE
    end = data.rfind(bytes([0xFF, END]), position) if begun else -1
    scans = int(begun)
    if begun and (is_progressive or in_scan < components):
        # Coded data holds no marker, so it can be searched through for those of further scans.
        scans += data.count(bytes([0xFF, SCAN]), position)
    whole_end = end + 2 if end >= 0 else None
    return Jpeg(rows, columns, components, precision, is_progressive, scans, whole_end)


def with_more_code(data: bytes, end: int) -> bytes:
    """Return a codestream that a decoder reads as before if it was whole, and otherwise not."""
    return data[: end - 2] + MORE_CODE + data[end - 2 : end]


def may_be_filled_in(samples: NDArray[np.generic], levels: Collection[int]) -> bool:
    """Tell whether a corner of a picture holds nothing but one of the levels that are filled in."""
    top, bottom = samples[0], samples[-1]
    ends = (top[:FILLED_IN_PX], top[-FILLED_IN_PX:], bottom[:FILLED_IN_PX], bottom[-FILLED_IN_PX:])
    return any(end[0] in levels and bool((end == end[0]).all()) for end in ends)


def cut_short() -> ScanError:
    """Return the error for a codestream whose coded data ends before its last sample."""
    return ScanError(
        "damaged",
        "Expected a whole JPEG, received one that is cut short: its coded data ends before its "
        "last pixel; send the file again.",
    )


def check_scans(jpeg: Jpeg) -> None:
    """Refuse a codestream of more scans than any encoder writes: each visits every sample."""
    samples = jpeg.rows * jpeg.columns * jpeg.components
    if jpeg.scans > MAX_SCANS or jpeg.scans * samples > MAX_SCAN_SAMPLES:
        raise ScanError(
            "too_costly",
            f"Expected a JPEG of at most {MAX_SCANS} scans (a large one of fewer), received one of "
            f"{jpeg.scans} scans; export it as a baseline JPEG or as PNG.",
        )
