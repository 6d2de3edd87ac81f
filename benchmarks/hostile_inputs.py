"""Inputs for `benchmarks.hostile`: damaged files of every format, and files made to do harm.

All come from fixed seeds, and carry a patient's name wherever a format has room for one.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from functools import cache
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders import RLELosslessEncoder

SECRET = "ZZYZX^QUENTINA"
SIDE_PX = 64
LARGE_PX = 5792  # 33.5 million pixels, about the most that is decoded
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def drawn(side_px: int = SIDE_PX, bits: int = 12) -> NDArray[np.uint16]:
    """A bright ellipse on noise, of so many bits."""
    rows, columns = np.mgrid[:side_px, :side_px] / side_px
    body = ((rows - 0.4) / 0.3) ** 2 + ((columns - 0.6) / 0.35) ** 2 < 1
    noise = np.random.default_rng(1).integers(0, 2 ** (bits - 3), (side_px, side_px))
    return (np.where(body, 2 ** (bits - 1), 2 ** (bits - 4)) + noise).astype(np.uint16)


def dicom(frame: bytes, syntax: str = uid.ExplicitVRLittleEndian, **elements: Any) -> bytes:
    """A DICOM file of a patient around encoded pixels."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uid.UID(syntax)
    values: dict[str, Any] = {
        "SOPClassUID": uid.CTImageStorage,
        "SOPInstanceUID": "1.2.3",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "Modality": "CT",
        "PatientName": SECRET,
        "PatientID": SECRET,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": SIDE_PX,
        "Columns": SIDE_PX,
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
        "RescaleIntercept": "-1024",
        "RescaleSlope": "1",
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "PixelData": encapsulate([frame]) if uid.UID(syntax).is_encapsulated else frame,
        **elements,
    }
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    dataset["PixelData"].VR = "OB" if uid.UID(syntax).is_encapsulated else "OW"
    dataset["PixelData"].is_undefined_length = uid.UID(syntax).is_encapsulated
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # values that pydicom knows to be wrong
        dataset.save_as(
            file,
            enforce_file_format=True,
            little_endian=syntax != uid.ExplicitVRBigEndian,
            implicit_vr=syntax == uid.ImplicitVRLittleEndian,
        )
    return file.getvalue()


def rle(pixels: NDArray[np.uint16]) -> bytes:
    """Encode as DICOM's RLE."""
    rows, columns = pixels.shape
    return RLELosslessEncoder.encode(
        pixels.tobytes(),
        rows=rows,
        columns=columns,
        samples_per_pixel=1,
        bits_allocated=16,
        bits_stored=16,
        pixel_representation=0,
        photometric_interpretation="MONOCHROME2",
        number_of_frames=1,
    )


def picture(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Encode with Pillow, with the patient's name in EXIF."""
    exif = Image.Exif()
    exif[0x010E] = SECRET
    if kind == "PNG":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_text("Patient", SECRET, zip=True)
    file = io.BytesIO()
    image.save(file, kind, **({} if kind == "BMP" else {"exif": exif}), **options)
    return file.getvalue()


@cache
def intact() -> dict[str, bytes]:
    """One whole file of each format, mode and transfer syntax, by name."""
    stored = drawn()
    grey = Image.fromarray((stored >> 4).astype(np.uint8))
    colour, deep = grey.convert("RGB"), Image.fromarray(stored << 4)
    real = Image.fromarray(stored.astype(np.float32))
    rgb16 = np.stack([stored] * 3, -1)
    encoded = {
        uid.ImplicitVRLittleEndian: stored.tobytes(),
        uid.ExplicitVRLittleEndian: stored.tobytes(),
        uid.ExplicitVRBigEndian: stored.byteswap().tobytes(),
        uid.DeflatedExplicitVRLittleEndian: stored.tobytes(),
        uid.RLELossless: rle(stored),
        uid.JPEGExtended12Bit: imagecodecs.jpeg8_encode(stored, level=95, bitspersample=12),
        uid.JPEGLosslessSV1: imagecodecs.jpeg8_encode(stored, lossless=True, bitspersample=16),
        uid.JPEGLSLossless: imagecodecs.jpegls_encode(stored),
        uid.JPEGLSNearLossless: imagecodecs.jpegls_encode(stored, level=3),
        uid.JPEG2000Lossless: imagecodecs.jpeg2k_encode(stored, codecformat="j2k", reversible=True),
        uid.HTJ2KLossless: imagecodecs.htj2k_encode(stored, reversible=True),
    }
    files = {f"DICOM {uid.UID(key).keyword}": dicom(value, key) for key, value in encoded.items()}
    return files | {
        "PNG grey": picture(grey, "PNG"),
        "PNG RGBA": picture(colour.convert("RGBA"), "PNG"),
        "PNG palette": picture(colour.quantize(64), "PNG"),
        "PNG grey 16": picture(deep, "PNG"),
        "PNG RGB 16": imagecodecs.png_encode(rgb16),
        "JPEG grey": picture(grey, "JPEG", quality=90, comment=SECRET.encode()),
        "JPEG progressive": picture(colour, "JPEG", quality=90, progressive=True),
        "JPEG CMYK": picture(colour.convert("CMYK"), "JPEG"),
        "BMP grey": picture(grey, "BMP"),
        "BMP RGB": picture(colour, "BMP"),
        "TIFF grey": picture(grey, "TIFF", description=SECRET),
        "TIFF LZW": picture(colour, "TIFF", compression="tiff_lzw"),
        "TIFF deflate 16": picture(deep, "TIFF", compression="tiff_adobe_deflate"),
        "TIFF float": picture(real, "TIFF"),
        "TIFF JPEG": picture(colour, "TIFF", compression="jpeg"),
        "TIFF CCITT": picture(grey.convert("1"), "TIFF", compression="group4"),
        "TIFF packbits": picture(colour.convert("RGBA"), "TIFF", compression="packbits"),
        "TIFF palette": picture(colour.quantize(64), "TIFF"),
        "TIFF BigTIFF": picture(grey, "TIFF", big_tiff=True),
        "WebP lossy": picture(colour, "WEBP"),
        "WebP lossless": picture(colour.convert("RGBA"), "WEBP", lossless=True),
    }


def damaged(index: int, seed: int) -> tuple[str, bytes]:
    """Return one damaged file, the same for the same index and seed."""
    rng = np.random.default_rng([seed, index])
    names = list(intact())
    name = names[index % len(names)]
    data = bytearray(intact()[name])
    for _ in range(int(rng.integers(1, 4))):
        DAMAGE[int(rng.integers(len(DAMAGE)))](data, rng)
        if not data:
            data = bytearray(b"\0")
    if name.startswith("PNG") and rng.random() < 0.7:
        _mend_checksums(data)  # or next to nothing would get past them
    return name, bytes(data)


def _mend_checksums(data: bytearray) -> None:
    """Give each chunk of a PNG the checksum of what it now holds."""
    at = 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        end = at + 8 + length
        if end + 4 > len(data):
            return
        struct.pack_into(">I", data, end, zlib.crc32(data[at + 4 : end]))
        at = end + 4


def _place(data: bytearray, rng: np.random.Generator) -> int:
    """Choose a place, half of the time in the first 400 bytes, where headers are."""
    return int(rng.integers(min(400, len(data)) if rng.random() < 0.5 else len(data)))


def _flip(data: bytearray, rng: np.random.Generator) -> None:
    for _ in range(int(rng.integers(1, 9))):
        data[_place(data, rng)] = int(rng.integers(256))


def _put_extreme(data: bytearray, rng: np.random.Generator) -> None:
    value, at = EXTREMES[int(rng.integers(len(EXTREMES)))], _place(data, rng)
    size = int(rng.choice([1, 2, 4]))
    form = (value & (256**size - 1)).to_bytes(size, "little" if rng.random() < 0.5 else "big")
    data[at : at + size] = form


def _cut(data: bytearray, rng: np.random.Generator) -> None:
    del data[_place(data, rng) :]


def _drop(data: bytearray, rng: np.random.Generator) -> None:
    at = _place(data, rng)
    del data[at : at + int(rng.integers(1, 64))]


def _repeat(data: bytearray, rng: np.random.Generator) -> None:
    at, size = _place(data, rng), int(rng.integers(1, 256))
    data[at:at] = bytes(data[at : at + size]) * int(rng.integers(1, 5))


def _name(data: bytearray, rng: np.random.Generator) -> None:
    at = _place(data, rng)
    data[at : at + len(SECRET)] = SECRET.encode()


def _splice(data: bytearray, rng: np.random.Generator) -> None:
    other = list(intact().values())[int(rng.integers(len(intact())))]
    at, start = _place(data, rng), int(rng.integers(len(other)))
    data[at : at + 64] = other[start : start + 64]


DAMAGE: tuple[Callable[[bytearray, np.random.Generator], None], ...] = (
    _flip, _put_extreme, _put_extreme, _cut, _drop, _repeat, _name, _splice,
)  # fmt: skip
