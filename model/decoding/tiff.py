"""Decode a TIFF file to grey levels.

Pillow reads the tags, imagecodecs' libtiff the samples: at their full depth, planar or not, and
with its errors kept to the call (Pillow's libtiff writes them to standard error).

Decisions that change pixels, beside those of `pictures`:

- Signed 16-bit samples that look like Hounsfield units get the lung window, see
  `grey_levels.looks_like_hounsfield`.
- WhiteIsZero is inverted after the depth of the samples is known.
- What has fewer than 8 bits a sample, a palette, CMYK or YCbCr is converted to RGB by libtiff.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from .decoded import Decoded
from .errors import ScanError, check_size
from .grey_levels import (
    colours_to_grey,
    look_up,
    looks_like_hounsfield,
    to_8_bit,
    window,
)
from .jpeg import MAX_SCAN_SAMPLES
from .limits import BUDGET, TimedStream
from .orientation import ORIENTATION, upright

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR = 0, 1, 2, 3, 5, 6
UNSIGNED, SIGNED, FLOAT = 1, 2, 3
NO_COMPRESSION, LZW, JPEG, DEFLATE, PACKBITS, OLD_DEFLATE, ZSTD = 1, 5, 7, 8, 32773, 32946, 50000
BILEVEL_ONLY = (2, 3, 4)  # CCITT
# Those without a dictionary that a file could make as large as it likes (LZMA), and no wrappers of
# other formats (WebP, JPEG 2000).
COMPRESSIONS = (
    NO_COMPRESSION, *BILEVEL_ONLY, LZW, JPEG, DEFLATE, PACKBITS, OLD_DEFLATE, ZSTD,
)  # fmt: skip
ASSOCIATED, UNASSOCIATED = 1, 2  # alpha, in ExtraSamples
MAX_SAMPLES = 8
MAX_PARTS = 2**20  # strips or tiles; libtiff keeps some 32 bytes of each
LIBTIFF_MIRRORS = {2: 1, 6: 1, 3: -1, 7: -1, 4: 0, 8: 0}  # axis that its RGBA reader turns over


@dataclass(frozen=True)
class Layout:
    """How a TIFF's samples lie in it. Names are the specification's."""

    width: int
    height: int
    bits: int
    samples: int
    sample_format: int
    photometric: int
    extra: tuple[int, ...]
    compression: int
    planar: bool
    tiled: bool
    part: tuple[int, int]  # (width, height) of a tile or strip
    parts: int
    orientation: int

    @property
    def needs_rgb(self) -> bool:
        """Whether libtiff is to convert the samples."""
        return self.photometric in (PALETTE, CMYK, YCBCR) or self.bits < 8

    @property
    def mode(self) -> str:
        """Pillow's mode for such a picture."""
        if self.photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO):
            if self.bits == 1:
                return "1"
            if self.bits > 8:
                unsigned = "I;16" if self.bits <= 16 else "I"
                return {UNSIGNED: unsigned, SIGNED: "I"}.get(self.sample_format, "F")
            return "LA" if self.extra else "L"
        if self.photometric == RGB:
            return {ASSOCIATED: "RGBa", UNASSOCIATED: "RGBA"}.get((*self.extra, 0)[0], "RGB")
        return {PALETTE: "P", CMYK: "CMYK"}.get(self.photometric, "RGB")

    @property
    def decoding_bytes(self) -> int:
        """Memory that decoding takes: samples, one tile or strip, and what becomes of them."""
        sample_bytes = 1 if self.bits <= 8 else 2 if self.bits <= 16 else self.bits // 8
        pixel_bytes = 4 if self.needs_rgb else self.samples * sample_bytes
        part_bytes = self.part[0] * self.part[1] * self.samples * sample_bytes
        part_bytes *= self.tiled or self.needs_rgb  # samples of a strip go to their place at once
        if self.compression == JPEG:  # coefficients of a progressive one
            part_bytes += 2 * self.part[0] * self.part[1] * self.samples
        if self.compression == ZSTD:  # the window that its decoder may be told to keep
            part_bytes += 2**27
        pixels = self.width * self.height
        return pixels * (pixel_bytes + (4 if self.needs_rgb else 2)) + part_bytes + 64 * self.parts


def decode_tiff(data: bytes) -> Decoded:
    """Decode a TIFF of one picture.

    Raises:
        ScanError: it is too large, of a kind that is not read, or holds several pictures.
        Exception: of nearly every type on damaged bytes.
    """
    layout = _layout(data)
    with BUDGET.reserve(layout.decoding_bytes):
        grey = upright(_grey(data, layout), layout.orientation)
    return Decoded(grey, layout.width, layout.height, layout.mode, "TIFF")


def _layout(data: bytes) -> Layout:
    """Read the tags, and refuse what would cost too much or is not read."""
    stream = TimedStream(data)
    start = stream.read(8)
    tags = ImageFileDirectory_v2(
        start + (stream.read(8) if start[2:4] in (b"+\0", b"\0+") else b"")
    )
    first = tags.next
    stream.seek(first)
    tags.load(stream)
    width, height = _whole(tags, 256), _whole(tags, 257)
    check_size(width, height)
    if tags.next not in (0, first):
        raise ScanError(
            "several_images",
            "Expected one slice, received a TIFF file of several; send one at a time.",
        )
    samples = _whole(tags, 277, 1)
    planar = _whole(tags, 284, 1) == 2
    bits = _numbers(tags, 258, (1,))
    formats = _numbers(tags, 339, (UNSIGNED,))
    if len(set(bits)) > 1 or len(set(formats)) > 1 or not 1 <= samples <= MAX_SAMPLES:
        raise rare("samples of several depths or over eight of them")
    tiled = 322 in tags
    part = (_whole(tags, 322), _whole(tags, 323)) if tiled else (
        width, min(_whole(tags, 278, height), height))  # fmt: skip
    if min(part) < 1:
        raise rare("tiles or strips of no size")
    parts = -(-width // part[0]) * -(-height // part[1]) * (samples if planar else 1)
    layout = Layout(
        width=width,
        height=height,
        bits=bits[0],
        samples=samples,
        sample_format=formats[0],
        photometric=_whole(tags, 262),
        extra=_numbers(tags, 338, ()),
        compression=_whole(tags, 259, NO_COMPRESSION),
        planar=planar,
        tiled=tiled,
        part=part,
        parts=parts,
        orientation=_whole(tags, ORIENTATION, 1),
    )
    _check_kind(layout, depth=max(_whole(tags, 32997, 1), _whole(tags, 32998, 1)))
    offsets, lengths = (324, 325) if tiled else (273, 279)
    _check_parts(layout, _numbers(tags, offsets, ()), _numbers(tags, lengths, ()), data)
    return layout


def _check_kind(layout: Layout, depth: int) -> None:
    """Refuse kinds of TIFF that are not read."""
    bilevel = layout.compression in BILEVEL_ONLY
    if layout.compression not in COMPRESSIONS or (bilevel and layout.bits != 1) or depth != 1:
        raise rare("a rare compression")
    grey = layout.photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO)
    depths = {UNSIGNED: (1, 2, 4, 8, 12, 16, 32), SIGNED: (8, 16, 32), FLOAT: (16, 32, 64)}
    if layout.photometric == RGB:
        known = layout.sample_format == UNSIGNED and layout.bits in (8, 16) and layout.samples >= 3
    elif grey:
        known = layout.bits in depths.get(layout.sample_format, ())
    else:
        known = layout.photometric in (PALETTE, CMYK, YCBCR) and layout.bits <= 8
    if not known:
        raise rare("samples of a rare kind")


def _check_parts(
    layout: Layout, offsets: tuple[int, ...], lengths: tuple[int, ...], data: bytes
) -> None:
    """Refuse a file that lacks strips or tiles, or decodes the same bytes again and again."""
    if layout.parts > MAX_PARTS:
        raise rare(f"over {MAX_PARTS} tiles or strips")
    whole = len(offsets) >= layout.parts and (
        len(lengths) >= layout.parts or layout.compression == NO_COMPRESSION
    )
    if not whole or any(
        offset + length > len(data) or length <= 0
        for offset, length in zip(offsets, lengths, strict=False)
    ):
        raise ScanError(
            "damaged",
            "Expected a whole TIFF picture, received one of which tiles or strips are missing; "
            "send it again.",
        )
    if sum(lengths) > len(data):
        raise rare("tiles or strips that overlap")
    if layout.compression == JPEG:
        samples = layout.part[0] * layout.part[1] * layout.samples
        if data.count(b"\xff\xda") * samples > MAX_SCAN_SAMPLES:
            raise rare("JPEG of many scans")


def _grey(data: bytes, layout: Layout) -> NDArray[np.uint8]:
    """Decode the samples and turn them to grey levels, as they lie in the file."""
    import imagecodecs  # takes a while to import

    shape = (layout.height, layout.width)
    if layout.needs_rgb:
        rgba = np.asarray(imagecodecs.tiff_decode(data, asrgb=True))
        if rgba.shape != (*shape, 4):
            raise rare("samples of a rare kind")
        mirror = LIBTIFF_MIRRORS.get(layout.orientation)
        size = (layout.width, layout.height)
        grey = np.asarray(Image.frombuffer("RGBA", size, rgba, "raw", "RGBA", 0, 1).convert("L"))
        return grey if mirror is None else np.flip(grey, None if mirror == -1 else mirror)
    samples = np.asarray(imagecodecs.tiff_decode(data)).reshape(
        (layout.samples, *shape) if layout.planar else (*shape, -1)
    )
    channels = list(samples) if layout.planar else list(np.moveaxis(samples, -1, 0))
    used = 3 if layout.photometric == RGB else 1
    alpha = channels[used] if UNASSOCIATED in layout.extra[:1] and len(channels) > used else None
    if used == 3 or (alpha is not None and alpha.dtype.kind == "u" and alpha.itemsize <= 2):
        grey = colours_to_grey(channels[:used], alpha)
    else:
        grey = _of_levels(channels[0])
    return 255 - grey if layout.photometric == WHITE_IS_ZERO else grey


def _as_words(levels: NDArray[np.generic]) -> NDArray[np.uint16]:
    return np.ascontiguousarray(levels).view(np.uint16)


def _of_levels(levels: NDArray[np.generic]) -> NDArray[np.uint8]:
    if levels.dtype == np.uint8:
        return levels.astype(np.uint8)
    if levels.dtype == np.int16 and looks_like_hounsfield(levels):
        words = np.arange(2**16, dtype=np.uint16)
        return look_up(window(words.view(np.int16).astype(np.float64)), _as_words(levels))
    if levels.dtype.kind == "f" and not np.isfinite(levels).any():
        raise ScanError(
            "no_grey_levels",
            "Expected grey levels, received a picture without one finite number; export it again.",
        )
    return to_8_bit(levels)


def _whole(tags: ImageFileDirectory_v2, tag: int, default: int | None = None) -> int:
    """Return a tag of one whole number."""
    value = tags.get(tag, default)
    if isinstance(value, tuple) and len(value) == 1:
        value = value[0]
    if not isinstance(value, int) or not 0 <= value < 2**32:
        raise rare("a tag that is not a whole number")
    return value


def _numbers(tags: ImageFileDirectory_v2, tag: int, default: tuple[int, ...]) -> tuple[int, ...]:
    """Return a tag of whole numbers."""
    value = tags.get(tag, default)
    value = value if isinstance(value, tuple) else (value,)
    if not all(isinstance(number, int) for number in value):
        raise rare("a tag that is not a whole number")
    return value


def rare(received: str) -> ScanError:
    """Return the error for a TIFF of a kind that is not read."""
    return ScanError(
        "unsupported_encoding",
        f"Expected a TIFF of a plain kind, received {received}; export the slice as PNG or DICOM.",
    )
