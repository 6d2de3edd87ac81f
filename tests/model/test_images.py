"""One decoder for every file: same pixels, same array; anything else, one clear sentence."""

from __future__ import annotations

import base64
import io
import logging
import struct
import subprocess
import sys
import warnings
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps

from model.decoding.errors import MAX_PIXELS, ScanError
from model.decoding.scan_file import decode, decode_grey, scan_bytes

ROOT = Path(__file__).resolve().parents[2]
SECRET = "DOE^JANE"


def slice_pixels(height: int = 96, width: int = 128) -> NDArray[np.uint8]:
    """A grey picture with no symmetry: a bright ellipse off centre on a gradient, with noise."""
    rows, columns = np.mgrid[:height, :width]
    body = ((rows / height - 0.4) / 0.3) ** 2 + ((columns / width - 0.6) / 0.35) ** 2 < 1
    noise = np.random.default_rng(7).integers(0, 20, (height, width))
    return np.where(body, 200, 40 * columns // width + noise).astype(np.uint8)


def encode(picture: Image.Image, kind: str, **options: Any) -> bytes:
    """Return the bytes of a picture's file."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def refusal(data: bytes) -> str:
    """Return the sentence with which bytes are refused, checked to be one clear sentence."""
    with pytest.raises(ScanError) as caught:
        decode_grey(data)
    message = str(caught.value)
    assert message.startswith("Expected ")
    assert "received " in message
    assert message.endswith(".")
    assert ". " not in message
    assert len(message) < 250
    return message


GREY = slice_pixels()
GREY_PNG = encode(Image.fromarray(GREY), "PNG")
PALETTE = Image.fromarray(GREY).convert("RGB").quantize(256)
CMYK = Image.merge("CMYK", [Image.new("L", (128, 96))] * 3 + [Image.fromarray(255 - GREY)])
FLOAT_255 = Image.fromarray(GREY.astype(np.float32))
FLOAT_1 = Image.fromarray(GREY.astype(np.float32) / 255)
DEEP = Image.fromarray(GREY.astype(np.uint16) * 257)
RGBA = Image.fromarray(GREY).convert("RGBA")

SAME_PIXELS = {
    "png-rgb": encode(Image.fromarray(GREY).convert("RGB"), "PNG"),
    "png-rgba": encode(RGBA, "PNG"),
    "png-la": encode(Image.fromarray(GREY).convert("LA"), "PNG"),
    "png-16-bit": encode(DEEP, "PNG"),
    "png-interlaced-free": encode(Image.fromarray(GREY), "PNG", compress_level=0),
    "bmp": encode(Image.fromarray(GREY), "BMP"),
    "bmp-rgb": encode(Image.fromarray(GREY).convert("RGB"), "BMP"),
    "tiff": encode(Image.fromarray(GREY), "TIFF"),
    "tiff-lzw": encode(Image.fromarray(GREY).convert("RGB"), "TIFF", compression="tiff_lzw"),
    "tiff-deflate": encode(Image.fromarray(GREY), "TIFF", compression="tiff_adobe_deflate"),
    "tiff-big": encode(Image.fromarray(GREY), "TIFF", big_tiff=True),
    "tiff-16-bit": encode(DEEP, "TIFF"),
    "tiff-float-255": encode(FLOAT_255, "TIFF"),
    "tiff-float-1": encode(FLOAT_1, "TIFF"),
    "tiff-int32": encode(Image.fromarray(GREY.astype(np.int32)), "TIFF"),
    "tiff-cmyk": encode(CMYK, "TIFF"),
    "tiff-rgba": encode(RGBA, "TIFF"),
    "webp-lossless": encode(RGBA, "WEBP", lossless=True),
}
LOSSY = {
    "jpeg": encode(Image.fromarray(GREY), "JPEG", quality=95),
    "jpeg-rgb": encode(Image.fromarray(GREY).convert("RGB"), "JPEG", quality=95),
    "jpeg-progressive": encode(Image.fromarray(GREY), "JPEG", quality=95, progressive=True),
    "jpeg-cmyk": encode(CMYK, "JPEG", quality=95),
    "tiff-ycbcr": encode(
        Image.fromarray(GREY).convert("RGB"), "TIFF", compression="jpeg", quality=95
    ),
    "webp": encode(RGBA, "WEBP", quality=95),
    "palette-png": encode(PALETTE, "PNG"),
    "palette-bmp": encode(PALETTE, "BMP"),
    "palette-tiff": encode(PALETTE, "TIFF"),
}
ONE_OF_EACH = {
    "PNG": GREY_PNG,
    "JPEG": LOSSY["jpeg"],
    "BMP": SAME_PIXELS["bmp"],
    "TIFF": SAME_PIXELS["tiff-lzw"],
    "WebP": LOSSY["webp"],
}


def test_a_scan_becomes_grey_levels_at_its_own_size() -> None:
    grey = decode_grey(GREY_PNG)
    assert grey.dtype == np.uint8
    assert np.array_equal(grey, GREY)


@pytest.mark.parametrize("name", ["PNG", "JPEG", "BMP", "TIFF", "WebP"])
def test_a_decoded_picture_says_what_it_is(name: str) -> None:
    with Image.open(io.BytesIO(ONE_OF_EACH[name])) as picture:
        expected = (picture.width, picture.height, picture.mode, picture.format)
    scan = decode(ONE_OF_EACH[name])
    assert (scan.width, scan.height, scan.mode, scan.format) == expected
    assert scan.header is None
    assert scan.grey.shape == (96, 128)


def test_width_and_height_are_those_of_the_file_not_of_the_upright_picture() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    scan = decode(encode(Image.fromarray(GREY), "PNG", exif=exif))
    assert (scan.width, scan.height) == (128, 96)
    assert scan.grey.shape == (128, 96)


def test_colours_are_weighed_as_bt_601_does() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    expected = colours @ np.array([0.299, 0.587, 0.114])
    assert np.abs(decode_grey(encode(Image.fromarray(colours), "PNG")) - expected).max() <= 1


@pytest.mark.parametrize("name", SAME_PIXELS)
def test_same_pixels_in_any_lossless_file_give_the_same_array(name: str) -> None:
    assert np.array_equal(decode_grey(SAME_PIXELS[name]), GREY)


@pytest.mark.parametrize("name", LOSSY)
def test_lossy_files_come_close(name: str) -> None:
    difference = decode_grey(LOSSY[name]).astype(int) - decode_grey(GREY_PNG)
    assert np.abs(difference).mean() < 3


def test_one_bit_pictures_are_black_and_white() -> None:
    pixels = decode_grey(encode(Image.fromarray(GREY > 100), "PNG"))
    assert pixels.min() == 0
    assert pixels.max() == 255


def test_12_bit_values_in_a_16_bit_file_fill_the_range() -> None:
    twelve_bit = (GREY.astype(np.uint16) << 4) | 15
    pixels = decode_grey(encode(Image.fromarray(twelve_bit), "PNG"))
    assert np.abs(pixels.astype(int) - decode_grey(GREY_PNG)).max() <= 1


def test_signed_and_fractional_levels_fill_their_own_range() -> None:
    for levels in (GREY.astype(np.float32) * 7.3 - 1000, GREY.astype(np.int32) * 8 - 1000):
        pixels = decode_grey(encode(Image.fromarray(levels), "TIFF"))
        assert (pixels.min(), pixels.max()) == (0, 255)


def test_nan_counts_as_the_darkest_level_and_nothing_else_as_no_picture() -> None:
    levels = FLOAT_255.copy()
    levels.paste(np.nan, (0, 0, 64, 48))
    assert decode_grey(encode(levels, "TIFF"))[:48, :64].max() == 0
    levels.paste(np.nan, (0, 0, 128, 96))
    assert "finite" in refusal(encode(levels, "TIFF"))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_lie_on_black(mode: str) -> None:
    clear = Image.new("L", (64, 64), 255).convert(mode)
    clear.putalpha(Image.new("L", (64, 64), 0))
    assert decode_grey(encode(clear, "PNG")).max() == 0
    clear.putalpha(Image.new("L", (64, 64), 128))
    assert set(np.unique(decode_grey(encode(clear, "PNG")))) == {128}


def test_transparent_palette_entry_lies_on_black() -> None:
    picture = Image.new("P", (64, 64), 1)
    picture.putpalette([0, 0, 0, 250, 250, 250])
    assert decode_grey(encode(picture, "PNG")).min() == 250
    assert decode_grey(encode(picture, "PNG", transparency=1)).max() == 0


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    data = encode(Image.fromarray(GREY).convert("RGB"), kind, exif=exif, **options)
    with Image.open(io.BytesIO(data)) as stored:
        upright = ImageOps.exif_transpose(stored)
        expected = decode_grey(encode(upright, "PNG"))
    assert np.abs(decode_grey(data).astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    "text",
    [
        base64.b64encode(GREY_PNG).decode(),
        base64.encodebytes(GREY_PNG).decode(),
        base64.encodebytes(GREY_PNG).decode().replace("\n", "\r\n "),
        base64.b64encode(GREY_PNG).decode().rstrip("="),
        base64.urlsafe_b64encode(GREY_PNG).decode(),
        "data:image/png;base64," + base64.b64encode(GREY_PNG).decode(),
        " Data:;base64,\n" + base64.b64encode(GREY_PNG).decode() + "\n",
    ],
    ids=["plain", "mime", "crlf", "unpadded", "urlsafe", "data-url", "data-url-bare"],
)
def test_base64_text_is_tolerant(text: str) -> None:
    assert scan_bytes(text) == GREY_PNG


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_pass(kind: type) -> None:
    assert scan_bytes(kind(GREY_PNG)) == GREY_PNG


@pytest.mark.parametrize(
    ("value", "received"),
    [
        (None, "nothing"),
        (float("nan"), "nothing"),
        ("", "nothing"),
        (b"", "nothing"),
        ("data:image/png;base64,", "nothing"),
        (3, "type int"),
        ([1, 2], "type list"),
        ({"path": "a.png"}, "type dict"),
        ("/home/jane_doe/scan.png?", "24 characters"),
        ("A", "1 characters"),
        ("ümlaut", "6 characters"),
    ],
)
def test_what_is_no_scan_is_refused(value: object, received: str) -> None:
    with pytest.raises(ScanError, match=received) as caught:
        scan_bytes(value)
    assert "jane" not in str(caught.value)


def zip_bytes() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.png", GREY_PNG)
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "received"),
    [
        (encode(Image.fromarray(GREY), "GIF"), "a GIF picture"),
        (encode(Image.fromarray(GREY), "PDF"), "a PDF document"),
        (encode(Image.fromarray(GREY), "JPEG2000"), "a JPEG 2000 picture"),
        (zip_bytes(), "a zip archive"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "a HEIC picture"),
        (b"\0\0\0\x18ftypavif\0\0\0\0", "an AVIF picture"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "a video"),
        (b"<!DOCTYPE html><html>Quota exceeded</html>", "an HTML page"),
        (b"RIFF\0\0\0\0WAVEfmt ", "of an unknown kind"),
        (b"patient,diagnosis\n" + SECRET.encode(), "bytes of text"),
        (bytes(1000), "of an unknown kind"),
        (b"\x89", "of an unknown kind"),
        (b"n", "bytes of text"),
    ],
)
def test_other_files_are_named(data: bytes, received: str) -> None:
    message = refusal(data)
    assert received in message
    assert SECRET not in message


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_several_pictures_in_one_file_are_refused(kind: str) -> None:
    frames = [Image.fromarray(np.roll(GREY, shift)) for shift in (0, 9)]
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:])
    assert "file of several" in refusal(data)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_truncated_files_are_refused(name: str) -> None:
    data = ONE_OF_EACH[name]
    for share in (0.1, 0.5, 0.9):
        assert name in refusal(data[: int(len(data) * share)])


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("share", [0.4, 0.7, 0.95])
def test_a_jpeg_that_was_cut_and_closed_again_is_refused(
    mode: str, orientation: int, share: float
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(Image.fromarray(GREY).convert(mode), "JPEG", quality=90, exif=exif)
    start = data.index(b"\xff\xda")
    assert "cut short" in refusal(data[: start + int((len(data) - start) * share)] + b"\xff\xd9")


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_whole_jpeg_of_middle_grey_is_taken(mode: str) -> None:
    for level in (127, 128, 64):
        middle = Image.fromarray(np.where(GREY > 100, GREY, level).astype(np.uint8)).convert(mode)
        for progressive in (False, True):
            data = encode(middle, "JPEG", quality=95, progressive=progressive)
            assert decode_grey(data).shape == (96, 128)


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(99)))


def claim_size(name: str, width: int, height: int) -> bytes:
    """Make a small file of a format claim another size in its header."""
    if name == "PNG":
        return png_header(width, height)
    data = bytearray(ONE_OF_EACH[name])
    if name == "JPEG":
        struct.pack_into(">HH", data, data.index(b"\xff\xc0") + 5, height, width)
    elif name == "BMP":
        struct.pack_into("<ii", data, 18, width, height)
    elif name == "WebP":
        extended = b"VP8X" + struct.pack("<I", 10) + bytes(4)
        extended += struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
        return b"RIFF" + struct.pack("<I", len(data) + 10) + b"WEBP" + extended + bytes(data[12:])
    else:
        (entries,) = struct.unpack_from("<I", data, 4)
        for tag, value in ((256, width), (257, height)):
            at = data.index(struct.pack("<H", tag), entries)
            struct.pack_into("<HII", data, at + 2, 4, 1, value)
    return bytes(data)


@pytest.mark.parametrize("name", ONE_OF_EACH)
@pytest.mark.parametrize(
    ("width", "height", "reason"),
    [
        (60_000, 60_000, "at most 33.6 million pixels"),
        (1, 1, "at least 32 pixels a side"),
        (31, 500, "at least 32 pixels a side"),
        (4000, 40, "at most 8 times as long as wide"),
    ],
)
def test_sizes_no_slice_has_are_refused_from_the_header(
    name: str, width: int, height: int, reason: str
) -> None:
    message = refusal(claim_size(name, width, height))
    assert reason in message
    assert f"{width} x {height}" in message


def test_the_largest_accepted_picture_holds_an_8k_screen() -> None:
    assert MAX_PIXELS >= 7680 * 4320


def test_bombs_take_no_memory(tmp_path: Path) -> None:
    for name in ONE_OF_EACH:
        (tmp_path / name).write_bytes(claim_size(name, 60_000, 60_000))
        (tmp_path / f"{name}-16383").write_bytes(claim_size(name, 16_383, 16_383))
    code = (
        "import pathlib, resource, sys\n"
        "from model.decoding.scan_file import ScanError, decode_grey\n"
        f"decode_grey(bytes.fromhex('{GREY_PNG.hex()}'))\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak()\n"
        "refused = 0\n"
        "for path in pathlib.Path(sys.argv[1]).iterdir():\n"
        "    try: decode_grey(path.read_bytes())\n"
        "    except ScanError: refused += 1\n"
        "print(refused, peak() - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    refused, grown_kb = map(int, done.stdout.split())
    assert refused == 2 * len(ONE_OF_EACH)
    assert grown_kb < 20_000
    assert done.stderr == ""


def test_threads_get_the_same_arrays() -> None:
    files = [*SAME_PIXELS.values(), *LOSSY.values()] * 4
    alone = [decode_grey(data) for data in files]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(decode_grey, files))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def test_pillow_is_left_as_it_was() -> None:
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
    for data in (GREY_PNG, claim_size("TIFF", 60_000, 60_000), LOSSY["jpeg"][:500]):
        try:
            decode_grey(data)
        except ScanError:
            continue
    assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)


def test_metadata_reaches_neither_logs_nor_warnings(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    data = bytearray(encode(Image.fromarray(GREY), "TIFF", description=SECRET))
    at = data.index(struct.pack("<HH", 270, 2))
    struct.pack_into("<I", data, at + 4, 10**6)  # the description claims to be longer than the file
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with Image.open(io.BytesIO(data)) as picture:
            picture.load()
        assert caught, "Pillow no longer warns about this file"
        caught.clear()
        caplog.clear()
        assert np.array_equal(decode_grey(bytes(data)), GREY)
        assert not caught
        assert not [record for record in caplog.records if record.name.startswith("PIL")]
        with Image.open(io.BytesIO(data)):
            assert caplog.records, "other users of Pillow must keep their logs"


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_any_bytes_give_an_array_or_a_scan_error(name: str) -> None:
    rng = np.random.default_rng(sum(name.encode()))
    intact = np.frombuffer(ONE_OF_EACH[name], np.uint8)
    refused = 0
    for _ in range(150):
        data = intact[: rng.integers(1, len(intact) + 1)].copy()
        near_start = rng.random() < 0.5
        for place in rng.integers(0, min(200, len(data)) if near_start else len(data), 4):
            data[place] = rng.integers(256)
        try:
            assert decode_grey(data.tobytes()).ndim == 2
        except ScanError as error:
            assert error.__cause__ is None
            assert error.__context__ is None
            refused += 1
    assert refused > 10
