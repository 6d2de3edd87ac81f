"""What a PNG's chunks say, read before a decoder runs; and pixels of 16 bits a sample.

Pillow reads every 8-bit PNG, but the high byte alone of 16-bit colours and of grey with alpha.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .errors import ScanError
from .grey_levels import colours_to_grey

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, COLOUR_BIT, ALPHA_BIT = 0, 2, 4  # colour type, PNG specification 11.2.1
DESCRIBING = (b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"sPLT", b"hIST")
EXIF_TEXT = (b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")  # may hold the orientation
MAX_TEXT_BYTES = 2**20  # of one chunk, inflated: what Pillow takes
MAX_CHUNKS = 100_000
END = struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))


@dataclass(frozen=True)
class Png:
    """A PNG's header, and its bytes without descriptions.

    Attributes:
        width, height, bits, colour_type: of the header chunk.
        data: the file without text, colour profiles and the like, which do not change a pixel
            and of which a decoder may take no more than a limit.
    """

    width: int
    height: int
    bits: int
    colour_type: int
    data: bytes

    @property
    def is_deep(self) -> bool:
        """Whether the samples have 16 bits and are more than grey levels."""
        return self.bits == 16 and self.colour_type != GREY

    @property
    def samples(self) -> int:
        """Samples a pixel."""
        colours = 3 if self.colour_type & COLOUR_BIT else 1
        return colours + bool(self.colour_type & ALPHA_BIT)


def read_png(data: bytes) -> Png:
    """Read a PNG's chunks.

    Raises:
        ScanError: there are more chunks than any encoder writes.
        struct.error: the header is cut short.
    """
    width, height, bits, colour_type = struct.unpack_from(">IIBB", data, len(SIGNATURE) + 8)
    dropped = [
        (start, end)
        for name, start, end in _chunks(data)
        if name in DESCRIBING and not _may_turn(data[start + 8 : end - 4], name)
    ]
    kept, position = [], 0
    for start, end in dropped:
        kept.append(data[position:start])
        position = end
    without = b"".join([*kept, data[position:]]) if dropped else data
    return Png(width, height, bits, colour_type, without)


def decode_deep(png: Png) -> NDArray[np.uint8]:
    """Decode 16-bit colours, or 16-bit grey levels with alpha, to grey levels."""
    import imagecodecs  # takes a while to import

    whole = png.data if png.data.endswith(END) else png.data + END
    pixels = np.asarray(imagecodecs.png_decode(whole))
    channels = list(np.moveaxis(np.atleast_3d(pixels), -1, 0))
    alpha = channels.pop() if len(channels) in (2, 4) else None
    return colours_to_grey(channels, alpha)


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, start and end of each whole chunk, up to the last."""
    position = len(SIGNATURE)
    for _ in range(MAX_CHUNKS):
        if len(data) < position + 12:
            return
        length, name = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            return
        yield name, position, end
        if name == b"IEND":
            return
        position = end
    raise ScanError(
        "too_costly",
        f"Expected a PNG of at most {MAX_CHUNKS} chunks, received one of more; "
        "export it again without metadata.",
    )


def _may_turn(content: bytes, name: bytes) -> bool:
    """Tell whether a text chunk may hold an orientation, and is no longer than Pillow takes."""
    if not content.startswith(EXIF_TEXT) or len(content) > MAX_TEXT_BYTES:
        return False
    if name == b"tEXt":
        return True
    text = content.partition(b"\0")[2]
    squeezed = text[1:] if name == b"zTXt" else text[2:].split(b"\0", 2)[-1]
    if name == b"iTXt" and text[:1] == b"\0":
        return True
    try:
        inflater = zlib.decompressobj()
        return len(inflater.decompress(squeezed, MAX_TEXT_BYTES)) < MAX_TEXT_BYTES
    except zlib.error:
        return False
