"""Files made by hand to take memory or time, to be scored though incomplete, or to be printed."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import imagecodecs
import numpy as np
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from benchmarks.hostile_inputs import (
    LARGE_PX,
    SECRET,
    SIDE_PX,
    dicom,
    drawn,
    intact,
    picture,
    rle,
)

J2K, DEFLATED = uid.JPEG2000Lossless, uid.DeflatedExplicitVRLittleEndian
LARGE = {"Rows": LARGE_PX, "Columns": LARGE_PX}
BODY = -1  # in a tag: the offset of what follows the tags
Tags = dict[int, tuple[int, int, int]]


def tiff(tags: Tags, body: bytes) -> bytes:
    """A TIFF of tags {number: (type, count, value)}."""
    start = 8 + 2 + 12 * len(tags) + 4
    ifd = b"".join(
        struct.pack("<HHII", tag, kind, count, start if value == BODY else value)
        for tag, (kind, count, value) in sorted(tags.items())
    )
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + ifd + bytes(4) + body


def strip_tags(side_px: int, body_bytes: int, bits: int = 8, **more: int) -> Tags:
    """The tags of a deflated grey TIFF of one strip."""
    values = {256: side_px, 257: side_px, 258: bits, 259: 8, 262: 1, 273: BODY, 277: 1,
              278: side_px, 279: body_bytes}  # fmt: skip
    values |= {int(key[1:]): value for key, value in more.items()}
    return {tag: (4, 1, value) for tag, value in values.items()}


def deflated_tiff(bits: int, **more: int) -> bytes:
    """A picture of LARGE_PX of equal samples, of some kB."""
    samples = more.get("_277", 1)
    body = zlib.compress(bytes(LARGE_PX * LARGE_PX * samples * bits // 8), 9)
    return tiff(strip_tags(LARGE_PX, len(body), bits, **more), body)


def tile_bomb(side_px: int = 46_000, picture_px: int = SIDE_PX) -> bytes:
    """A small picture in one tile of any size."""
    tags = strip_tags(picture_px, 1000)
    tags |= {322: (4, 1, side_px), 323: (4, 1, side_px), 324: tags.pop(273), 325: tags.pop(279)}
    return tiff(tags, zlib.compress(bytes(2**20))[:1000])


def overlapping_strips(strips: int = 4000, megabytes: int = 8) -> bytes:
    """Strips that all lie on the same empty deflate blocks."""
    empty = b"\x78\x9c" + b"\0\0\0\xff\xff" * (megabytes * 200_000)
    tags = strip_tags(strips, len(empty), _278=1)
    start = 8 + 2 + 12 * len(tags) + 4
    tags[273], tags[279] = (4, strips, start), (4, strips, start + 4 * strips)
    offsets = struct.pack("<I", start + 8 * strips) * strips
    return tiff(tags, offsets + struct.pack("<I", len(empty)) * strips + empty)


def missing_strips() -> bytes:
    """A TIFF that has half of its strips."""
    body = zlib.compress(bytes(SIDE_PX * SIDE_PX // 2))
    return tiff(strip_tags(SIDE_PX, len(body), _278=SIDE_PX // 2), body)


def many_scans(side_px: int, scans: int) -> bytes:
    """A progressive JPEG whose last scan stands there again and again."""
    data = picture(Image.fromarray((drawn(side_px) >> 4).astype(np.uint8)), "JPEG",
                   quality=30, progressive=True)  # fmt: skip
    start = data.rindex(b"\xff\xda")
    return data[:start] + data[start:-2] * scans + data[-2:]


def many_segments(megabytes: int) -> bytes:
    """A JPEG with empty application segments before its frame."""
    data = intact()["JPEG grey"]
    return data[:2] + b"\xff\xe1\0\x02" * (megabytes * 250_000) + data[2:]


def long_run_length_bmp(side_px: int, code: bytes) -> bytes:
    """A run-length BMP of any code."""
    palette = bytes(1024)
    header = struct.pack("<IiiHHIIiiII", 40, side_px, side_px, 1, 8, 1, len(code), 0, 0, 256, 0)
    offset = 14 + len(header) + len(palette)
    return b"BM" + struct.pack("<IHHI", offset + len(code), 0, 0, offset) + header + palette + code


def png(header: tuple[int, int, int, int], compressed: bytes, *extra: tuple[bytes, bytes]) -> bytes:
    """A PNG of (width, height, bits, colour type) around any compressed data."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", *header, 0, 0, 0)), *extra,
              (b"IDAT", compressed), (b"IEND", b"")]  # fmt: skip
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )


def large_png(bits: int, colour_type: int, samples: int) -> bytes:
    """A PNG of LARGE_PX of equal samples."""
    row = 1 + LARGE_PX * samples * bits // 8
    return png((LARGE_PX, LARGE_PX, bits, colour_type), zlib.compress(bytes(row * LARGE_PX), 9))


def text_bomb_png() -> bytes:
    """A PNG whose text and colour profile inflate to 64 MB each."""
    squeezed = zlib.compress(bytes(2**26), 9)
    extra = ((b"zTXt", b"Comment\0\0" + squeezed), (b"iCCP", b"profile\0\0" + squeezed))
    row = 1 + SIDE_PX
    return png((SIDE_PX, SIDE_PX, 8, 0), zlib.compress(bytes(row * SIDE_PX)), *extra)


def chunked_png(chunks: int) -> bytes:
    """A PNG of very many empty chunks."""
    return png((SIDE_PX, SIDE_PX, 8, 0), b"", *[(b"IDAT", b"")] * chunks)


def j2k(side_px: int = SIDE_PX) -> bytes:
    """A whole JPEG 2000 codestream."""
    return imagecodecs.jpeg2k_encode(
        drawn(side_px), codecformat="j2k", reversible=True, resolutions=5
    )


def patched_j2k(
    side_px: int, layers: int = 1, block: int = 4, precinct: int | None = None
) -> bytes:
    """A codestream whose coding style says something else than its data."""
    data = bytearray(j2k(side_px))
    at = data.index(b"\xff\x52")
    length, style = struct.unpack_from(">HB", data, at + 2)
    struct.pack_into(">H", data, at + 6, layers)
    data[at + 10 : at + 12] = bytes([block, block])
    if precinct is not None and not style & 1:
        sizes = bytes([precinct | precinct << 4] * (data[at + 9] + 1))
        data[at + 2 + length : at + 2 + length] = sizes
        struct.pack_into(">H", data, at + 2, length + len(sizes))
        data[at + 4] |= 1
    return bytes(data)


def tiled_j2k(side_px: int, tile_px: int, tiles_left: int | None = None) -> bytes:
    """A codestream in tiles: each is the same whole tile; perhaps not all of them."""
    data = j2k(tile_px)
    start, end = data.index(b"\xff\x90"), len(data) - 2
    header, tile = bytearray(data[:start]), bytearray(data[start:end])
    struct.pack_into(">II", header, 8, side_px, side_px)
    count = -((-side_px // tile_px) ** 2) if tiles_left is None else tiles_left
    parts = []
    for index in range(count):
        struct.pack_into(">HIBB", tile, 4, index, len(tile), 0, 1)
        parts.append(bytes(tile))
    return bytes(header) + b"".join(parts) + data[-2:]


def empty_tiles_j2k(side_px: int, tile_px: int) -> bytes:
    """A codestream with all of its tiles, each without a byte."""
    data = bytearray(j2k())
    start = data.index(b"\xff\x90")
    struct.pack_into(">II", data, 8, side_px, side_px)
    struct.pack_into(">II", data, 24, tile_px, tile_px)
    count = min((-(-side_px // tile_px)) ** 2, 65_535)
    tiles = b"".join(
        b"\xff\x90" + struct.pack(">HHIBB", 10, index, 14, 0, 1) + b"\xff\x93"
        for index in range(count)
    )
    return bytes(data[:start]) + tiles + b"\xff\xd9"


def nested_dicom(depth: int, width: int = 1) -> bytes:
    """A DICOM file with private sequences in sequences, or of many items."""
    data = intact()["DICOM ExplicitVRLittleEndian"]
    at = data.index(b"\x08\0\x60\0CS")
    opened = b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff" * depth
    item = b"\xfe\xff\0\xe0\0\0\0\0" * width
    closed = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0" * depth
    return data[:at] + opened + (item if depth else b"") + closed + data[at:]


def deflate_bomb(body_start: bool) -> bytes:
    """A deflated DICOM file that inflates to 512 MB."""
    data = intact()["DICOM DeflatedExplicitVRLittleEndian"]
    (length,) = struct.unpack_from("<I", data, 140)
    head, body = data[: 144 + length], zlib.decompress(data[144 + length :], -zlib.MAX_WBITS)
    squeezer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    parts = [squeezer.compress(body if body_start else b"")]
    parts += [squeezer.compress(bytes(2**24)) for _ in range(32)]
    return head + b"".join(parts) + squeezer.flush()


def enhanced(frames: int) -> bytes:
    """A multi-frame file with a group of every frame."""
    group = Dataset()
    group.PixelMeasuresSequence = Sequence([Dataset()])
    return dicom(drawn().tobytes(), NumberOfFrames=frames,
                 PerFrameFunctionalGroupsSequence=Sequence([group] * frames))  # fmt: skip


def fragments(count: int) -> bytes:
    """A compressed slice in very many fragments without a byte."""
    data = intact()["DICOM JPEGLSLossless"]
    at = data.rindex(b"\xfe\xff\xdd\xe0")
    return data[:at] + b"\xfe\xff\0\xe0\0\0\0\0" * count + data[at:]


def large_dicom(encode: Callable[[np.ndarray], bytes], syntax: str, side_px: int) -> bytes:
    """A compressed slice of any size."""
    size = {"Rows": side_px, "Columns": side_px}
    return dicom(encode(np.zeros((side_px, side_px), np.uint16)), syntax, **size)


def noisy_j2k(side_px: int) -> bytes:
    """The slowest JPEG 2000: every bit of every pixel is noise."""
    noise = np.random.default_rng(2).integers(0, 2**16, (side_px, side_px), dtype=np.uint16)
    frame = imagecodecs.jpeg2k_encode(noise, codecformat="j2k", reversible=True)
    return dicom(frame, J2K, Rows=side_px, Columns=side_px, BitsStored=16, HighBit=15)


def rescaled(**elements: str) -> bytes:
    """A slice with numbers that no scanner writes."""
    return dicom(drawn().tobytes(), **elements)


def several_pictures_webp() -> bytes:
    """An animation of large pictures."""
    frames = [Image.new("RGB", (4000, 4000), colour) for colour in ("red", "green", "blue")]
    return picture(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)


KINDS: dict[str, Callable[[], bytes]] = {
    "TIFF tile of 46,000 x 46,000": tile_bomb,
    "TIFF tile of 9,000 x 9,000": lambda: tile_bomb(9_000),
    "TIFF float32 of 33 million": lambda: deflated_tiff(32, _339=3),
    "TIFF float64 of 33 million": lambda: deflated_tiff(64, _339=3),
    "TIFF RGB 16 of 33 million": lambda: deflated_tiff(16, _277=3, _262=2),
    "TIFF 8 samples of 33 million": lambda: deflated_tiff(8, _277=8),
    "TIFF bilevel of 33 million": lambda: deflated_tiff(1),
    "TIFF depth of a million": lambda: tiff(strip_tags(SIDE_PX, 99, _32997=10**6), bytes(99)),
    "TIFF strips on the same bytes": overlapping_strips,
    "TIFF half of the strips": missing_strips,
    "TIFF LZMA": lambda: tiff(strip_tags(SIDE_PX, 99, _259=34925), bytes(99)),
    "BigTIFF of endless tags": lambda: (
        b"II+\0\x08\0\0\0"
        + struct.pack("<QQ", 16, 2**40)
        + struct.pack("<HHQQ", 270, 2, 4, 0) * 400_000
    ),
    "JPEG 1,000 scans of 1 million": lambda: many_scans(1024, 1000),
    "JPEG 99 scans of 16 million": lambda: many_scans(4096, 99),
    "JPEG progressive of 33 million": lambda: picture(
        Image.new("RGB", (LARGE_PX, LARGE_PX)), "JPEG", progressive=True, subsampling=0
    ),
    "JPEG CMYK of 33 million": lambda: picture(Image.new("CMYK", (LARGE_PX, LARGE_PX)), "JPEG"),
    "JPEG 32 MB of segments": lambda: many_segments(32),
    "BMP 31 MB of run-length code": lambda: long_run_length_bmp(SIDE_PX, b"\0\0" * 15_500_000),
    "BMP single runs of 33 million": lambda: long_run_length_bmp(
        LARGE_PX, b"\x01\x07" * 15_500_000
    ),
    "BMP run-length of 33 million": lambda: long_run_length_bmp(
        LARGE_PX, (b"\xff\x07" * 22 + b"\xb6\x07\0\0") * LARGE_PX
    ),
    "PNG RGBA of 33 million": lambda: large_png(8, 6, 4),
    "PNG RGBA 16 of 33 million": lambda: large_png(16, 6, 4),
    "PNG RGB 16 of 33 million": lambda: large_png(16, 2, 3),
    "PNG grey 16 of 33 million": lambda: large_png(16, 0, 1),
    "PNG text bombs": text_bomb_png,
    "PNG 500,000 chunks": lambda: chunked_png(500_000),
    "PNG 30 MB of empty blocks": lambda: png(
        (SIDE_PX, SIDE_PX, 8, 0), b"\x78\x9c" + b"\0\0\0\xff\xff" * 6_000_000
    ),
    "WebP of 33 million": lambda: picture(
        Image.new("RGBA", (LARGE_PX, LARGE_PX)), "WEBP", lossless=True
    ),
    "WebP animation": several_pictures_webp,
    "DICOM deflated of 33 million": lambda: dicom(bytes(2 * LARGE_PX**2), DEFLATED, **LARGE),
    "DICOM deflate bomb of pixels": lambda: deflate_bomb(True),
    "DICOM deflate bomb of elements": lambda: deflate_bomb(False),
    "DICOM RLE of 33 million": lambda: large_dicom(rle, uid.RLELossless, LARGE_PX),
    "DICOM RLE of 31 MB for 4,096": lambda: dicom(
        struct.pack("<16I", 2, 64, 15_000_064, *[0] * 13) + b"\x80" * 31_000_000, uid.RLELossless
    ),
    "DICOM JPEG-LS of 33 million": lambda: large_dicom(
        imagecodecs.jpegls_encode, uid.JPEGLSLossless, LARGE_PX
    ),
    "DICOM JPEG lossless of 33 million": lambda: large_dicom(
        lambda a: imagecodecs.jpeg8_encode(a, lossless=True, bitspersample=16),
        uid.JPEGLosslessSV1,
        LARGE_PX,
    ),
    "DICOM JPEG of many scans": lambda: dicom(
        many_scans(2048, 1000),
        uid.JPEGBaseline8Bit,
        Rows=2048,
        Columns=2048,
        BitsAllocated=8,
        BitsStored=8,
        HighBit=7,
    ),
    "DICOM J2K of 33 million": lambda: large_dicom(
        lambda a: imagecodecs.jpeg2k_encode(a, codecformat="j2k", reversible=True), J2K, LARGE_PX
    ),
    "DICOM J2K of 8 million, noise": lambda: noisy_j2k(2896),
    "DICOM J2K of 1 of 16 tiles": lambda: dicom(tiled_j2k(256, 64, 1), J2K, Rows=256, Columns=256),
    "DICOM J2K of 16 empty tiles": lambda: dicom(
        empty_tiles_j2k(256, 64), J2K, Rows=256, Columns=256
    ),
    "DICOM J2K of 65,535 tiles": lambda: dicom(
        empty_tiles_j2k(2048, 8), J2K, Rows=2048, Columns=2048
    ),
    "DICOM J2K of 65,535 layers": lambda: dicom(
        patched_j2k(2048, layers=65_535), J2K, Rows=2048, Columns=2048
    ),
    "DICOM J2K of blocks of 4 x 4": lambda: dicom(
        patched_j2k(2896, block=0), J2K, Rows=2896, Columns=2896
    ),
    "DICOM J2K of precincts of 1 x 1": lambda: dicom(
        patched_j2k(2048, precinct=0), J2K, Rows=2048, Columns=2048
    ),
    "DICOM sequences 3,000 deep": lambda: nested_dicom(3000),
    "DICOM sequence of 3 million items": lambda: nested_dicom(1, 3_000_000),
    "DICOM of 2,000 frames": lambda: enhanced(2000),
    "DICOM of 2 million fragments": lambda: fragments(2_000_000),
    "DICOM slope 1e308": lambda: rescaled(RescaleSlope="1e308"),
    "DICOM slope 1e-320": lambda: rescaled(RescaleSlope="1e-320"),
    "DICOM intercept -1e308": lambda: rescaled(RescaleIntercept="-1e308"),
    "DICOM window 1e308": lambda: rescaled(
        Modality="OT", WindowCenter="1e308", WindowWidth="1e308"
    ),
    "DICOM a name as slope": lambda: intact()["DICOM ExplicitVRLittleEndian"].replace(
        b"DS\x02\0001 ", b"DS\x0e\0" + SECRET.encode()
    ),
}
# To be refused whatever they cost; the others may be scored within the limits.
NEVER_SCORED = (
    "TIFF tile of 46,000 x 46,000", "TIFF half of the strips", "TIFF strips on the same bytes",
    "JPEG 1,000 scans of 1 million", "DICOM J2K of 1 of 16 tiles", "DICOM J2K of 16 empty tiles",
    "DICOM deflate bomb of pixels", "DICOM slope 1e308", "DICOM slope 1e-320",
    "DICOM intercept -1e308", "DICOM window 1e308", "DICOM of 2,000 frames",
)  # fmt: skip
