"""16-bit and signed pictures of every layout: the same slice, the same grey levels."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from benchmarks.hostile_kinds import png
from model.decoding.scan_file import decode, decode_grey
from tests.model.test_dicom import lung_window
from tests.model.test_images import GREY, GREY_PNG, encode, refusal

TWELVE = GREY.astype(np.uint16) << 4 | GREY >> 4  # 0-4095
SIXTEEN = GREY.astype(np.uint16) * 257
ROWS = np.mgrid[:96, :128][0]
OPACITY = np.where(ROWS < 30, 0, 255).astype(np.uint8)
BITS = {np.uint8: 8, np.uint16: 16, np.int16: 16, np.float32: 32}


def stacked(*channels: NDArray[np.generic]) -> NDArray[np.generic]:
    return np.stack(channels, -1)


def tiff(
    samples: NDArray[np.generic],
    photometric: int,
    *,
    tile: int = 0,
    planar: bool = False,
    extra: int | None = None,
    compression: int = 8,
    order: str = "<",
    orientation: int = 1,
    rows_per_strip: int = 40,
) -> bytes:
    """Write a TIFF of any layout, (height, width) or (height, width, samples)."""
    samples = samples[..., None] if samples.ndim == 2 else samples
    height, width, count = samples.shape
    planes = [samples[..., i : i + 1] for i in range(count)] if planar else [samples]
    pieces = []
    for plane in planes:
        if tile:
            padded = np.pad(plane, [(0, -height % tile), (0, -width % tile), (0, 0)])
            pieces += [padded[y : y + tile, x : x + tile] for y in range(0, height, tile)
                       for x in range(0, width, tile)]  # fmt: skip
        else:
            pieces += [plane[y : y + rows_per_strip] for y in range(0, height, rows_per_strip)]
    raw = [np.ascontiguousarray(piece).astype(piece.dtype.newbyteorder(order)).tobytes()
           for piece in pieces]  # fmt: skip
    parts = [zlib.compress(piece) if compression == 8 else piece for piece in raw]
    kind = {"u": 1, "i": 2, "f": 3}[samples.dtype.kind]
    tags: dict[int, list[int]] = {
        256: [width], 257: [height], 258: [8 * samples.itemsize] * count, 259: [compression],
        262: [photometric], 274: [orientation], 277: [count], 284: [1 + planar],
        339: [kind] * count,
    }  # fmt: skip
    if extra is not None:
        tags[338] = [extra]
    offsets_tag, lengths_tag = (324, 325) if tile else (273, 279)
    tags |= {322: [tile], 323: [tile]} if tile else {278: [rows_per_strip]}
    tags |= {offsets_tag: [0] * len(parts), lengths_tag: [len(part) for part in parts]}
    at = 8 + 2 + 12 * len(tags) + 4
    values_at = {}
    for tag, values in sorted(tags.items()):
        values_at[tag] = at
        at += 4 * len(values) if len(values) > 1 else 0
    tags[offsets_tag] = [at + sum(map(len, parts[:i])) for i in range(len(parts))]
    ifd, far = struct.pack(order + "H", len(tags)), b""
    for tag, values in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(values)}I", *values)
        inline = packed if len(values) == 1 else struct.pack(order + "I", values_at[tag])
        ifd += struct.pack(order + "HHI", tag, 4, len(values)) + inline
        far += packed if len(values) > 1 else b""
    magic = b"II*\0" if order == "<" else b"MM\0*"
    return magic + struct.pack(order + "I", 8) + ifd + bytes(4) + far + b"".join(parts)


LAYOUTS = [
    {},
    {"compression": 1},
    {"order": ">"},
    {"order": ">", "compression": 1},
    {"tile": 48},
    {"tile": 64, "order": ">"},
    {"rows_per_strip": 96},
]
PLANAR = [{"planar": True}, {"planar": True, "tile": 32}, {"planar": True, "compression": 1}]


def assert_same(grey: NDArray[np.uint8], expected: NDArray[np.uint8] = GREY) -> None:
    assert grey.shape == expected.shape
    assert np.abs(grey.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("levels", [TWELVE, SIXTEEN, GREY], ids=["12", "16", "8"])
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_tiff_grey_black_and_white_is_zero(
    levels: NDArray[np.generic], layout: dict[str, int]
) -> None:
    assert_same(decode_grey(tiff(levels, 1, **layout)))
    white = (4095 if levels is TWELVE else np.iinfo(levels.dtype).max) - levels
    assert_same(decode_grey(tiff(white, 0, **layout)))


@pytest.mark.parametrize("levels", [TWELVE, SIXTEEN, GREY], ids=["12", "16", "8"])
@pytest.mark.parametrize("layout", [*LAYOUTS, *PLANAR], ids=str)
def test_tiff_colours_and_alpha(levels: NDArray[np.generic], layout: dict[str, int]) -> None:
    assert_same(decode_grey(tiff(stacked(*[levels] * 3), 2, **layout)))
    deepest = np.iinfo(levels.dtype).max
    alpha = (OPACITY // 255 * levels.dtype.type(deepest)).astype(levels.dtype)
    shown = np.where(OPACITY, GREY, 0)
    for extra, expected in ((2, shown), (0, GREY)):
        rgba = tiff(stacked(*[levels] * 3, alpha), 2, extra=extra, **layout)
        assert_same(decode_grey(rgba), expected)
        assert_same(decode_grey(tiff(stacked(levels, alpha), 1, extra=extra, **layout)), expected)


def test_colours_of_16_bits_are_weighed() -> None:
    red, green, blue = (np.random.default_rng(i).integers(0, 4096, (64, 64)) for i in range(3))
    rgb = stacked(red, green, blue).astype(np.uint16)
    expected = (0.299 * red + 0.587 * green + 0.114 * blue) / 4095 * 255
    for data in (imagecodecs.png_encode(rgb), tiff(rgb, 2), tiff(rgb, 2, planar=True)):
        assert np.abs(decode_grey(data) - expected).max() <= 1.5


@pytest.mark.parametrize("levels", [TWELVE, SIXTEEN], ids=["12", "16"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png_of_16_bits(levels: NDArray[np.uint16], channels: int) -> None:
    alpha = np.where(OPACITY, 65535, 0).astype(np.uint16)
    parts = [levels] * (3 if channels > 2 else 1) + [alpha] * (channels in (2, 4))
    data = imagecodecs.png_encode(stacked(*parts) if channels > 1 else levels)
    expected = np.where(OPACITY, GREY, 0) if channels in (2, 4) else GREY
    scan = decode(data)
    assert_same(scan.grey, expected)
    with Image.open(io.BytesIO(data)) as picture:
        assert (scan.mode, scan.width, scan.height) == (picture.mode, 128, 96)


def test_a_transparent_level_of_a_deep_png_is_black() -> None:
    level = int(SIXTEEN[50, 70])
    row = np.pad(SIXTEEN.astype(">u2").view(np.uint8), [(0, 0), (1, 0)])
    data = png((128, 96, 16, 0), zlib.compress(row.tobytes()), (b"tRNS", struct.pack(">H", level)))
    assert_same(decode_grey(data), np.where(level == SIXTEEN, 0, GREY))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("levels", [SIXTEEN, GREY], ids=["16", "8"])
@pytest.mark.parametrize("photometric", [1, 2, 5])
def test_deep_and_converted_tiffs_are_turned(
    orientation: int, levels: NDArray[np.generic], photometric: int
) -> None:
    if photometric == 5:
        black = (255 - GREY).astype(np.uint8)
        samples = stacked(*[np.zeros_like(black)] * 3, black)
    else:
        samples = levels if photometric == 1 else stacked(*[levels] * 3)
    scan = decode(tiff(samples, photometric, orientation=orientation))
    exif = Image.Exif()
    exif[274] = orientation
    expected = decode_grey(encode(Image.fromarray(GREY), "PNG", exif=exif))
    assert_same(scan.grey, expected)
    assert (scan.width, scan.height) == (128, 96)


HU = np.linspace(-1024, 1800, 96 * 128).reshape(96, 128).round().astype(np.int16)
OUTSIDE = np.hypot(ROWS - 48, np.mgrid[:96, :128][1] - 64) > 45


@pytest.mark.parametrize("padding", [-1024, -2000, -2048, -3024, -8192, -32768])
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_hounsfield_units_in_a_tiff_get_the_lung_window(
    padding: int, layout: dict[str, int]
) -> None:
    levels = np.where(OUTSIDE, padding, HU).astype(np.int16)
    expected = np.where(OUTSIDE, lung_window(np.array(max(padding, -1351))), lung_window(HU))
    assert np.array_equal(decode_grey(tiff(levels, 1, **layout)), expected)
    assert np.array_equal(decode_grey(tiff(levels, 0, **layout)), 255 - expected)


@pytest.mark.parametrize(
    "levels",
    [
        SIXTEEN.astype(int) - 32768,  # an offset, with many values below air's
        GREY.astype(int) - 128,  # a difference
        GREY.astype(int) * 8,
    ],
)
def test_other_signed_levels_fill_their_range(levels: NDArray[np.int64]) -> None:
    grey = decode_grey(tiff(levels.astype(np.int16), 1))
    low = levels.min() if levels.min() < 0 else 0
    high = levels.max() if levels.min() < 0 else 4095
    expected = (levels - low) / (high - low) * 255
    assert np.abs(grey - expected).max() <= 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: tiff(TWELVE, 1, tile=48)[:-300],
        lambda: tiff(np.zeros((96, 128), np.uint16), 8),
        lambda: tiff(stacked(*[GREY.astype(np.float32)] * 3), 2),
    ],
    ids=["cut", "lab", "float colours"],
)
def test_what_is_not_read_of_a_tiff_is_refused(make: Callable[[], bytes]) -> None:
    assert "TIFF" in refusal(make())


@pytest.mark.parametrize("chunk", [b"zTXt", b"iCCP", b"iTXt", b"tEXt"])
def test_large_descriptions_are_no_damage(chunk: bytes) -> None:
    squeezed = zlib.compress(bytes(3_000_000))
    content = {
        b"zTXt": b"Comment\0\0" + squeezed,
        b"iCCP": b"profile\0\0" + squeezed,
        b"iTXt": b"Comment\0\x01\0\0\0" + squeezed,
        b"tEXt": b"Comment\0" + b"x" * 3_000_000,
    }[chunk]
    row = np.pad(GREY, [(0, 0), (1, 0)])
    data = png((128, 96, 8, 0), zlib.compress(row.tobytes()), (chunk, content))
    assert np.array_equal(decode_grey(data), GREY)


def test_an_orientation_in_a_text_chunk_still_counts() -> None:
    exif = Image.Exif()
    exif[274] = 6
    turned = encode(Image.fromarray(GREY), "PNG", exif=exif)
    xmp = b'<x xmlns:tiff="t" tiff:Orientation="6"/>'
    row = np.pad(GREY, [(0, 0), (1, 0)])
    pixels = zlib.compress(row.tobytes())
    data = png((128, 96, 8, 0), pixels, (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp))
    assert np.array_equal(decode_grey(data), decode_grey(turned))


def test_metadata_that_cannot_be_read_is_no_damage() -> None:
    jpeg = encode(Image.fromarray(GREY), "JPEG", quality=95)
    broken = b"Exif\0\0II*\0\xff\xff\xff\x7f" + bytes(20)
    data = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(broken) + 2) + broken + jpeg[2:]
    assert np.array_equal(decode_grey(data), decode_grey(jpeg))
    assert_same(decode_grey(GREY_PNG))
