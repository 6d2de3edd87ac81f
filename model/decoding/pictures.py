"""Decode a picture (PNG, JPEG, BMP, TIFF, WebP) to grey levels.

Decisions that change pixels:

- Colour is dropped: CT has none, and coloured marks tell the source of a picture.
- Transparent pixels are laid on black, which is what air looks like in a CT.
- Deeper grey levels than 8 bits are scaled by a range that does not hang on one bright pixel, see
  `grey_levels.to_8_bit`; of 16-bit colours the high byte counts, as Pillow reads them.
- The picture is turned upright as its EXIF orientation says. Colour profiles are not applied.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageChops
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from .decoded import Decoded
from .errors import ScanError, check_size
from .grey_levels import to_8_bit
from .quiet import quiet_decoders

EXIF_ORIENTATION = 0x0112
EXIF_TRANSPOSE = {  # Exif 2.32, table 6: where the first row and column of a picture belong
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
Opener = Callable[[io.BytesIO], ImageFile]
PICTURES: tuple[tuple[bytes, str, Opener], ...] = (
    (b"\x89PNG\r\n\x1a\n", "PNG", PngImageFile),
    (b"\xff\xd8\xff", "JPEG", JpegImageFile),
    (b"II*\0", "TIFF", TiffImageFile),
    (b"MM\0*", "TIFF", TiffImageFile),
    (b"II+\0", "TIFF", TiffImageFile),
    (b"MM\0+", "TIFF", TiffImageFile),
    (b"RIFF", "WebP", WebPImageFile),
    (b"BM", "BMP", BmpImageFile),
)


def picture_kind(data: bytes) -> tuple[str, Opener] | None:
    """Return the format's name and what opens it, or None for what is no such picture."""
    for signature, name, opener in PICTURES:
        if data.startswith(signature) and (name != "WebP" or data[8:12] == b"WEBP"):
            return name, opener
    return None


def decode_picture(data: bytes, name: str, opener: Opener) -> Decoded:
    """Decode one picture of a known format, checking its size before any pixel is allocated.

    Args:
        data: the file's bytes.
        name, opener: see `picture_kind`.

    Raises:
        ScanError: when the bytes are not one whole picture of a sensible size.
    """
    try:
        with quiet_decoders():
            if name == "WebP":
                check_size(*_webp_size(data))  # its opener already allocates two canvases
            picture = opener(io.BytesIO(data))
            check_size(*picture.size)
            if getattr(picture, "is_animated", False):
                raise ScanError(
                    f"Expected one slice, received a {name} file of several; send one at a time."
                )
            (width, height), mode = picture.size, picture.mode
            picture.load()
            turn = EXIF_TRANSPOSE.get(picture.getexif().get(EXIF_ORIENTATION, 1))
            grey = _grey(picture)
            upright = np.asarray(grey if turn is None else grey.transpose(turn))
            return Decoded(upright, width, height, mode, name.upper())
    except ScanError:
        raise
    # Pillow raises nearly every exception type on damaged bytes, struct.error, SyntaxError and
    # MemoryError among them, with texts that may quote the file: so without a cause or context.
    except Exception:  # noqa: S110
        pass
    raise ScanError(
        f"Expected a whole {name} picture, received {len(data)} bytes of one that is damaged, "
        "cut short or of a rare kind; send it again or export it as PNG."
    )


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
    width, height = data[26:28], data[28:30]
    return int.from_bytes(width, "little") & 0x3FFF, int.from_bytes(height, "little") & 0x3FFF


def _grey(picture: Image.Image) -> Image.Image:
    """Convert a decoded picture of any mode to "L"."""
    if picture.mode.startswith(("I", "F")):
        levels = np.asarray(picture)
        if not np.isfinite(levels).any():
            raise ScanError(
                "Expected grey levels, received a picture without one finite number; "
                "export it again."
            )
        return Image.fromarray(to_8_bit(levels))
    if picture.mode in ("P", "PA", "RGBa") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
    elif picture.mode == "La":
        picture = picture.convert("LA")
    elif picture.mode not in ("1", "L", "LA", "RGB", "RGBA"):
        picture = picture.convert("RGB")
    grey = picture.convert("L")
    if picture.mode not in ("LA", "RGBA"):
        return grey
    alpha = picture.getchannel("A")
    return grey if alpha.getextrema() == (255, 255) else ImageChops.multiply(grey, alpha)
