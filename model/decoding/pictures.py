"""Decode a picture (PNG, JPEG, BMP, TIFF, WebP) to grey levels.

Decisions that change pixels:

- Colour is dropped: CT has none, and coloured marks tell the source of a picture.
- Transparent pixels are laid on black, which is what air looks like in a CT.
- Deeper levels than 8 bits, grey or coloured, are scaled by a range that does not hang on one
  bright pixel, see `grey_levels.to_8_bit`.
- The picture is turned upright as its EXIF orientation says. Colour profiles are not applied.

What decoding will cost is known from the header, checked and reserved before a decoder runs.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from .decoded import Decoded
from .errors import ScanError, check_size
from .grey_levels import to_8_bit
from .jpeg import check_scans, cut_short, may_be_filled_in, read_jpeg, with_more_code
from .limits import BUDGET, TimedStream
from .orientation import ORIENTATION, upright
from .png import decode_deep, read_png
from .quiet import quiet_decoders
from .tiff import decode_tiff

Decoder = Callable[[bytes], Decoded]
STORED_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "LA": 4}  # a pixel in Pillow; 4 for others
WEBP_PIXEL_BYTES = 23  # two canvases, a copy, Pillow's picture, and what `_pixel_bytes` counts
SLOW_BLOCK_BYTES = 2**13  # what Pillow reads at a time of a JPEG whose bytes may be slow
JPEG_FILLED_IN = (128, 64)  # of grey and colour, and of CMYK: see `jpeg.may_be_filled_in`
MAX_RUN_CODES = 2  # bytes of run-length code for a pixel of a BMP, escapes aside


def picture_kind(data: bytes) -> tuple[str, Decoder] | None:
    """Return the format's name and what decodes it, or None for what is no such picture."""
    for signature, name, decoder in PICTURES:
        if data.startswith(signature) and (name != "WebP" or data[8:12] == b"WEBP"):
            return name, decoder
    return None


def decode_picture(data: bytes, name: str, decoder: Decoder) -> Decoded:
    """Decode one picture of a known format, checking its size before any pixel is allocated.

    Args:
        data: the file's bytes.
        name, decoder: see `picture_kind`.

    Raises:
        ScanError: when the bytes are not one whole picture of a sensible size.
    """
    try:
        with quiet_decoders():
            return decoder(data)
    except (ScanError, ImportError):  # a decoder that is not installed is no fault of the file
        raise
    # Decoders raise nearly every exception type on damaged bytes, struct.error, SyntaxError and
    # MemoryError among them, with texts that may quote the file: so without a cause or context.
    except Exception:  # noqa: S110
        pass
    raise ScanError(
        "damaged",
        f"Expected a whole {name} picture, received {len(data)} bytes of one that is damaged, "
        "cut short or of a rare kind; send it again or export it as PNG.",
    )


def _decode_png(data: bytes) -> Decoded:
    png = read_png(data)
    check_size(png.width, png.height)
    if not png.is_deep:
        return _decode(PngImageFile(io.BytesIO(png.data)), "PNG")
    picture = PngImageFile(io.BytesIO(png.data))
    _check_single(picture, "PNG")
    pixels = png.width * png.height
    with BUDGET.reserve(pixels * (2 * png.samples + 3)):
        grey = upright(decode_deep(png), _orientation(picture))
    return Decoded(grey, png.width, png.height, picture.mode, "PNG")


def _decode_jpeg(data: bytes) -> Decoded:
    jpeg = read_jpeg(data)
    if jpeg is not None:
        check_size(jpeg.columns, jpeg.rows)
        check_scans(jpeg)
    decoded = _decode_jpeg_once(data, 0 if jpeg is None else jpeg.coefficient_bytes)
    if jpeg is not None and jpeg.end and may_be_filled_in(decoded.grey, JPEG_FILLED_IN):
        more = _decode_jpeg_once(with_more_code(data, jpeg.end), jpeg.coefficient_bytes)
        if not np.array_equal(decoded.grey, more.grey):
            raise cut_short()
    return decoded


def _decode_jpeg_once(data: bytes, coefficient_bytes: int) -> Decoded:
    if not coefficient_bytes:
        return _decode(JpegImageFile(io.BytesIO(data)), "JPEG")
    picture = JpegImageFile(TimedStream(data))
    picture.decodermaxblock = SLOW_BLOCK_BYTES
    return _decode(picture, "JPEG", coefficient_bytes)


def _decode_bmp(data: bytes) -> Decoded:
    picture = BmpImageFile(io.BytesIO(data))
    check_size(*picture.size)
    codes, pixels = len(data) - picture.tile[0].offset, picture.width * picture.height
    if picture.tile[0].codec_name != "bmp_rle":
        return _decode(picture, "BMP")
    if codes > MAX_RUN_CODES * pixels + 4 * picture.height + 2**16:
        raise ScanError(
            "too_costly",
            "Expected a BMP whose run-length code fits its pixels, received one of far more code "
            "than pixels; export it as PNG.",
        )
    return _decode(BmpImageFile(TimedStream(data)), "BMP", 2 * pixels)


def _decode_webp(data: bytes) -> Decoded:
    width, height = _webp_size(data)
    check_size(width, height)
    with BUDGET.reserve(WEBP_PIXEL_BYTES * width * height):  # opening it allocates two canvases
        picture = WebPImageFile(io.BytesIO(data))
        check_size(*picture.size)
        return _load(picture, "WebP")


def _decode(picture: ImageFile, name: str, extra_bytes: int = 0) -> Decoded:
    """Decode with Pillow.

    Args:
        picture: opened, nothing of it decoded.
        name: of the format.
        extra_bytes: what the decoder needs beside the picture.
    """
    check_size(*picture.size)
    pixels = picture.width * picture.height
    with BUDGET.reserve(pixels * _pixel_bytes(picture) + extra_bytes):
        return _load(picture, name)


def _load(picture: ImageFile, name: str) -> Decoded:
    _check_single(picture, name)
    (width, height), mode = picture.size, picture.mode
    picture.load()
    grey = upright(_grey(picture), _orientation(picture))
    return Decoded(grey, width, height, mode, name.upper())


def _pixel_bytes(picture: ImageFile) -> int:
    """Return bytes a pixel that Pillow's picture and its way to grey levels take."""
    stored = STORED_BYTES.get(picture.mode, 4)
    converted = 4 if picture.mode in ("P", "PA", "CMYK") or "transparency" in picture.info else 0
    return stored + converted + 5  # grey, alpha, their product, and an array with its copy


def _check_single(picture: ImageFile, name: str) -> None:
    if getattr(picture, "is_animated", False):
        raise ScanError(
            "several_images",
            f"Expected one slice, received a {name} file of several; send one at a time.",
        )


def _orientation(picture: ImageFile) -> int:
    """Return the EXIF orientation, 1 where EXIF says none or cannot be read."""
    try:
        value = picture.getexif().get(ORIENTATION, 1)
    except ScanError:
        raise
    except Exception:  # as in decode_picture; metadata that cannot be read is no damage
        return 1
    return value if isinstance(value, int) else 1


def _webp_size(data: bytes) -> tuple[int, int]:
    """Return width and height from a WebP header (RFC 9649, section 2)."""
    kind = data[12:16]
    if kind == b"VP8X":
        return (
            int.from_bytes(data[24:27], "little") + 1,
            int.from_bytes(data[27:30], "little") + 1,
        )
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF


def _grey(picture: Image.Image) -> NDArray[np.uint8]:
    """Convert a decoded picture of any mode to grey levels."""
    if picture.mode.startswith(("I", "F")):
        levels = np.asarray(picture)
        grey = to_8_bit(levels)
        transparent = picture.info.get("transparency")
        return grey if transparent is None else np.where(levels == transparent, np.uint8(0), grey)
    if picture.mode in ("P", "PA", "RGBa") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
    elif picture.mode == "La":
        picture = picture.convert("LA")
    elif picture.mode not in ("1", "L", "LA", "RGB", "RGBA"):
        picture = picture.convert("RGB")
    grey_picture = picture.convert("L")
    if picture.mode not in ("LA", "RGBA"):
        return np.asarray(grey_picture)
    alpha = picture.getchannel("A")
    if alpha.getextrema() == (255, 255):
        return np.asarray(grey_picture)
    return np.asarray(ImageChops.multiply(grey_picture, alpha))


PICTURES: tuple[tuple[bytes, str, Decoder], ...] = (
    (b"\x89PNG\r\n\x1a\n", "PNG", _decode_png),
    (b"\xff\xd8\xff", "JPEG", _decode_jpeg),
    (b"II*\0", "TIFF", decode_tiff),
    (b"MM\0*", "TIFF", decode_tiff),
    (b"II+\0", "TIFF", decode_tiff),
    (b"MM\0+", "TIFF", decode_tiff),
    (b"RIFF", "WebP", _decode_webp),
    (b"BM", "BMP", _decode_bmp),
)
