"""Decode a scan's file bytes to grey levels: the one decoder of training, evaluation and serving.

Decisions that change pixels:

- Colour is dropped: CT has none, and coloured marks tell the source of a picture.
- Transparent pixels are laid on black, which is what air looks like in a CT.
- Deeper grey levels than 8 bits are scaled by a range that does not hang on one bright pixel, see
  `grey_levels.to_8_bit`; of 16-bit colours the high byte counts, as Pillow reads them.
- The picture is turned upright as its EXIF orientation says. Colour profiles are not applied.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from model.decoding.file_kinds import content_name
from model.decoding.grey_levels import to_8_bit
from model.decoding.quiet import quiet_decoders

IMAGE_SIZE_PX = 224  # VGG16's input, Simonyan and Zisserman 2014
MAX_PIXELS = 2**25  # just above an 8K screenshot (7680 x 4320); 134 MB decoded at 4 bytes a pixel
MIN_SIDE_PX = 32  # smaller is an icon: 1/16 of a CT matrix of 512
MAX_ASPECT_RATIO = 8  # an axial slice is about 1.5 times as wide as high; 8 is a strip, not a slice
ACCEPTED = "a chest CT slice as PNG, JPEG, BMP, TIFF, WebP or DICOM"

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
PICTURES: tuple[tuple[bytes, str, Callable[[io.BytesIO], ImageFile]], ...] = (
    (b"\x89PNG\r\n\x1a\n", "PNG", PngImageFile),
    (b"\xff\xd8\xff", "JPEG", JpegImageFile),
    (b"II*\0", "TIFF", TiffImageFile),
    (b"MM\0*", "TIFF", TiffImageFile),
    (b"II+\0", "TIFF", TiffImageFile),
    (b"MM\0+", "TIFF", TiffImageFile),
    (b"RIFF", "WebP", WebPImageFile),
    (b"BM", "BMP", BmpImageFile),
)


class ScanError(ValueError):
    """A scan that cannot be scored; the message says what was expected, what came, what to do."""


def scan_bytes(image: object) -> bytes:
    """Return the bytes of a scan's file.

    Args:
        image: the bytes, or base64 text of them; line breaks, a `data:...;base64,` prefix, the
            URL-safe alphabet and missing padding are tolerated.

    Raises:
        ScanError: when it is missing, empty, of another type or not base64.
    """
    if isinstance(image, bytes | bytearray | memoryview):
        data = bytes(image)
    elif isinstance(image, str):
        data = _base64_bytes(image)
    elif image is None or (isinstance(image, float) and np.isnan(image)):
        data = b""
    else:
        raise ScanError(
            f"Expected the bytes of a scan's file or base64 text of them, received a value of type "
            f"{type(image).__name__}; send the file's content."
        )
    if not data:
        raise ScanError(f"Expected {ACCEPTED}, received nothing; send the file's content.")
    return data


def decode_grey(data: bytes) -> NDArray[np.uint8]:
    """Decode a scan's file to grey levels at its own size.

    Args:
        data: the file's bytes, see `scan_bytes`.

    Returns:
        Grey levels, uint8 0-255, shape (height, width), upright. Colours are weighed as ITU-R
        BT.601 does (Pillow's "L").

    Raises:
        ScanError: when the bytes are not one whole picture of a sensible size.
    """
    if data[128:132] != b"DICM":  # a DICOM file's preamble may pass for a TIFF
        for signature, name, opener in PICTURES:
            if data.startswith(signature) and (name != "WebP" or data[8:12] == b"WEBP"):
                return _decode_picture(data, name, opener)

    from model.decoding.dicom import dicom_to_grey, is_dicom  # pydicom takes a while to import

    if is_dicom(data):
        return dicom_to_grey(data)
    raise ScanError(
        f"Expected {ACCEPTED}, received {content_name(data)}; export the slice as PNG or DICOM."
    )


def check_size(width_px: int, height_px: int) -> None:
    """Refuse a picture whose header gives a size no CT slice has, before it is decoded."""
    received = f"received one of {width_px} x {height_px} pixels"
    if min(width_px, height_px) < MIN_SIDE_PX:
        raise ScanError(
            f"Expected a slice of at least {MIN_SIDE_PX} pixels a side, {received}; "
            "send the original, not a thumbnail."
        )
    if width_px * height_px > MAX_PIXELS:
        raise ScanError(
            f"Expected a slice of at most {MAX_PIXELS / 1e6:.1f} million pixels, {received}; "
            "send it at its original size."
        )
    if max(width_px, height_px) > MAX_ASPECT_RATIO * min(width_px, height_px):
        raise ScanError(
            f"Expected a slice at most {MAX_ASPECT_RATIO} times as long as wide, {received}; "
            "send one whole slice."
        )


def _base64_bytes(text: str) -> bytes:
    """Decode base64 text as senders really write it."""
    with contextlib.suppress(ValueError):
        return base64.b64decode(text, validate=True)  # most of it: as RFC 4648 has it
    if text.lstrip()[:5].lower() == "data:":
        text = text.partition(",")[2]
    compact = "".join(text.split()).rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ScanError(
            f"Expected base64 text of a scan's file, received {len(text)} characters that are not "
            "base64; encode the file's content, not its name."
        ) from None


def _decode_picture(
    data: bytes, name: str, opener: Callable[[io.BytesIO], ImageFile]
) -> NDArray[np.uint8]:
    """Decode one picture of a known format, checking its size before any pixel is allocated."""
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
            picture.load()
            turn = EXIF_TRANSPOSE.get(picture.getexif().get(EXIF_ORIENTATION, 1))
            grey = _grey(picture)
            return np.asarray(grey if turn is None else grey.transpose(turn))
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
