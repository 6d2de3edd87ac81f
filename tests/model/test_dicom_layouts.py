"""Where the bits of a pixel lie, what stands for no pixel, and where an enhanced slice says it."""

from __future__ import annotations

import struct

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence

from model.decoding.errors import ScanError
from model.decoding.scan_file import decode, decode_grey, read_header
from tests.model.test_dicom import (
    BIG_ENDIAN,
    ENCODERS,
    EXPECTED,
    HEADER,
    HU,
    PATIENT,
    SLICE,
    STORED,
    compressed,
    file_bytes,
    lung_window,
    patched,
    rle_encode,
    slice_dataset,
    without_meta,
)
from tests.model.test_images import GREY_PNG, refusal

NATIVE = [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, BIG_ENDIAN]
SIGNED_12 = (HU & 0xFFF).astype(np.uint16)  # two's complement of 12 bits


def slice_of(
    stored: NDArray[np.integer], syntax: str = uid.ExplicitVRLittleEndian, **elements: object
) -> bytes:
    """A CT slice whose elements are all given, HighBit too."""
    high_bit = elements.pop("HighBit", None)
    if syntax in ENCODERS:
        elements["PixelData"] = encapsulate([ENCODERS[syntax](stored.view(np.uint16))])
    elif syntax == BIG_ENDIAN:
        elements["PixelData"] = stored.byteswap().tobytes()
    dataset = slice_dataset(stored, **elements)
    if high_bit is not None:
        dataset.HighBit = high_bit
    return file_bytes(dataset, syntax)


@pytest.mark.parametrize("syntax", [*NATIVE, *ENCODERS], ids=lambda s: uid.UID(s).keyword)
@pytest.mark.parametrize("low_bits", [0, 0b1010])
def test_values_in_the_upper_bits_are_shifted_down(syntax: str, low_bits: int) -> None:
    data = slice_of(STORED << 4 | np.uint16(low_bits), syntax, HighBit=15, BitsStored=12)
    assert np.array_equal(decode_grey(data), EXPECTED)


@pytest.mark.parametrize("syntax", [*NATIVE, *ENCODERS], ids=lambda s: uid.UID(s).keyword)
def test_signed_values_in_the_upper_bits(syntax: str) -> None:
    data = slice_of((SIGNED_12 << 4).view(np.int16), syntax, HighBit=15, BitsStored=12,
                    PixelRepresentation=1, RescaleIntercept="0")  # fmt: skip
    assert np.array_equal(decode_grey(data), EXPECTED)


@pytest.mark.parametrize("syntax", [*NATIVE, *ENCODERS], ids=lambda s: uid.UID(s).keyword)
@pytest.mark.parametrize("extended", [False, True], ids=["12-bit", "sign-extended"])
def test_signed_values_of_12_bits(syntax: str, extended: bool) -> None:
    stored = HU.astype(np.int16) if extended else SIGNED_12.view(np.int16)
    data = slice_of(stored, syntax, BitsStored=12, PixelRepresentation=1, RescaleIntercept="0")
    assert np.array_equal(decode_grey(data), EXPECTED)


@pytest.mark.parametrize("syntax", [*NATIVE, *ENCODERS], ids=lambda s: uid.UID(s).keyword)
def test_signed_values_of_16_bits(syntax: str) -> None:
    data = slice_of(HU.astype(np.int16), syntax, BitsStored=16, RescaleIntercept="0")
    assert np.array_equal(decode_grey(data), EXPECTED)


@pytest.mark.parametrize(
    "frame",
    [
        imagecodecs.jpeg8_encode(SIGNED_12, lossless=True, bitspersample=12),
        imagecodecs.jpeg2k_encode(SIGNED_12, codecformat="j2k", reversible=True, bitspersample=12),
    ],
    ids=["jpeg-lossless", "jpeg-2000"],
)
def test_the_codestream_says_how_deep_it_is(frame: bytes) -> None:
    syntax = uid.JPEGLosslessSV1 if frame[1] == 0xD8 else uid.JPEG2000Lossless
    dataset = slice_dataset(
        PixelData=encapsulate([frame]), BitsStored=16, PixelRepresentation=1, RescaleIntercept="0"
    )
    assert np.array_equal(decode_grey(file_bytes(dataset, syntax)), EXPECTED)


def test_the_depth_of_a_jpeg_ls_codestream_counts_too() -> None:
    eight = imagecodecs.jpegls_encode((HU // 8 & 0xFF).astype(np.uint8))
    assert eight[eight.index(b"\xff\xf7") + 4] == 8
    dataset = slice_dataset(PixelData=encapsulate([eight]), BitsStored=16, PixelRepresentation=1,
                            RescaleIntercept="0", RescaleSlope="8")  # fmt: skip
    values = (HU // 8 & 0xFF).astype(np.uint8).view(np.int8).astype(int) * 8
    assert np.array_equal(decode_grey(file_bytes(dataset, uid.JPEGLSLossless)), lung_window(values))


def test_a_signed_codestream_is_signed_whatever_the_elements_say() -> None:
    frame = imagecodecs.jpeg2k_encode(HU.astype(np.int16), codecformat="j2k", reversible=True)
    for representation in (0, 1):
        dataset = slice_dataset(
            PixelData=encapsulate([frame]),
            BitsStored=16,
            PixelRepresentation=representation,
            RescaleIntercept="0",
        )
        assert np.array_equal(decode_grey(file_bytes(dataset, uid.JPEG2000Lossless)), EXPECTED)


@pytest.mark.parametrize("high_bit", [3, 16, 200])
def test_a_high_bit_that_fits_nothing_is_refused(high_bit: int) -> None:
    assert "HighBit" in refusal(slice_of(STORED, HighBit=high_bit, BitsStored=12))


OUTSIDE = np.hypot(*(np.mgrid[:96, :128] - np.array([48, 64])[:, None, None])) > 45
PADDED = np.where(OUTSIDE, 0, EXPECTED)


@pytest.mark.parametrize("syntax", [*NATIVE, *ENCODERS], ids=lambda s: uid.UID(s).keyword)
@pytest.mark.parametrize(
    ("stored", "padding", "elements"),
    [
        (np.uint16, 63536, {"BitsStored": 16}),
        (np.uint16, 4095, {"BitsStored": 12}),
        (np.uint16, 63536, {"BitsStored": 12}),
        (np.int16, -2000, {"BitsStored": 16}),
        (np.int16, 32767, {"BitsStored": 16}),
        (np.int16, -2000, {"BitsStored": 12}),
        (np.int16, 30000, {"BitsStored": 12}),
    ],
)
def test_padding_is_air(
    syntax: str, stored: type[np.integer], padding: int, elements: dict[str, int]
) -> None:
    pixels = np.where(OUTSIDE, padding, STORED).astype(stored)
    data = slice_of(pixels, syntax, PixelPaddingValue=padding, **elements)
    assert np.array_equal(decode_grey(data), np.where(OUTSIDE, 0, EXPECTED))


@pytest.mark.parametrize("first", [3000, 3100], ids=["limit-above", "limit-below"])
def test_a_range_of_padding_is_air(first: int) -> None:
    pixels = np.where(OUTSIDE, 3000 + np.arange(128) % 100, STORED.clip(0, 2500)).astype(np.uint16)
    data = slice_of(pixels, PixelPaddingValue=first, PixelPaddingRangeLimit=6100 - first)
    expected = np.where(OUTSIDE, 0, lung_window(STORED.clip(0, 2500).astype(int) - 1500))
    assert np.array_equal(decode_grey(data), expected)


def test_padding_of_an_inverted_slice_looks_like_its_air() -> None:
    pixels = np.where(OUTSIDE, 63536, STORED).astype(np.uint16)
    data = slice_of(pixels, BitsStored=16, PixelPaddingValue=63536,
                    PhotometricInterpretation="MONOCHROME1")  # fmt: skip
    assert np.array_equal(decode_grey(data), 255 - PADDED)


def test_padding_of_a_capture_is_black() -> None:
    pixels = np.where(OUTSIDE, 255, EXPECTED // 2).astype(np.uint8)
    data = slice_of(pixels, Modality="OT", RescaleSlope=None, RescaleIntercept=None,
                    PixelPaddingValue=255)  # fmt: skip
    assert np.array_equal(decode_grey(data), np.where(OUTSIDE, 0, EXPECTED // 2))


def groups(**macros: dict[str, object]) -> Sequence:
    """A sequence of functional groups of one frame."""
    group = Dataset()
    for macro, elements in macros.items():
        item = Dataset()
        for keyword, value in elements.items():
            setattr(item, keyword, value)
        setattr(group, macro, Sequence([item]))
    return Sequence([group])


RESCALE = {"PixelValueTransformationSequence": {"RescaleSlope": "1", "RescaleIntercept": "-1500"}}
PLANE = {
    "PlaneOrientationSequence": {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]},
    "PlanePositionSequence": {"ImagePositionPatient": [-10, -20, 33.5]},
    "PixelMeasuresSequence": {"PixelSpacing": [0.75, 0.5], "SliceThickness": "1.25"},
}


def enhanced(syntax: str, undefined: bool = False, **elements: object) -> bytes:
    """An enhanced CT of one frame."""
    swapped = STORED.byteswap() if syntax == BIG_ENDIAN else STORED
    dataset = slice_dataset(PixelData=swapped.tobytes(), SOPClassUID=uid.EnhancedCTImageStorage,
                            RescaleSlope=None, RescaleIntercept=None,
                            **{"NumberOfFrames": 1} | elements)  # fmt: skip
    if undefined:
        for element in dataset:
            if element.VR == "SQ":
                element.is_undefined_length = True
    return file_bytes(dataset, syntax)


@pytest.mark.parametrize("syntax", [*NATIVE, uid.DeflatedExplicitVRLittleEndian])
@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_an_enhanced_slice_of_one_frame(syntax: str, undefined: bool, shared: bool) -> None:
    first, second = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
    if not shared:
        first, second = second, first
    data = enhanced(syntax, undefined, **{first: groups(**RESCALE), second: groups(**PLANE)})
    scan = decode(data)
    assert np.array_equal(scan.grey, EXPECTED)
    assert scan.header is not None
    assert scan.header.orientation == (1, 0, 0, 0, 1, 0)
    assert scan.header.position_mm == (-10, -20, 33.5)
    assert scan.header.pixel_spacing_mm == (0.75, 0.5)
    assert scan.header.slice_thickness_mm == 1.25
    assert scan.header.position_along_normal_mm == 33.5


def test_an_enhanced_slice_that_is_not_axial_is_refused() -> None:
    plane = PLANE | {"PlaneOrientationSequence": {"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}}
    data = enhanced(
        uid.ExplicitVRLittleEndian, SharedFunctionalGroupsSequence=groups(**RESCALE, **plane)
    )
    assert "90 degrees off" in refusal(data)


def test_many_frames_are_refused_as_such_and_their_header_is_read() -> None:
    groups_of_all = Sequence([groups(**PLANE)[0] for _ in range(3000)])
    data = enhanced(uid.ExplicitVRLittleEndian, True, NumberOfFrames=3000,
                    PerFrameFunctionalGroupsSequence=groups_of_all)  # fmt: skip
    assert "multi-frame" in refusal(data)
    header = read_header(data)
    assert header is not None
    assert (header.frames, header.modality) == (3000, "CT")


def tilted(degrees: float) -> list[float]:
    angle = np.radians(degrees)
    return [1, 0, 0, 0, round(float(np.cos(angle)), 6), round(float(np.sin(angle)), 6)]


@pytest.mark.parametrize("degrees", [0, 12, -19.5, 180, 170])
def test_axial_slices_with_a_tilted_gantry_are_taken(degrees: float) -> None:
    assert np.array_equal(
        decode_grey(slice_of(STORED, ImageOrientationPatient=tilted(degrees))), EXPECTED
    )


@pytest.mark.parametrize("modality", ["CT", "OT", None])
@pytest.mark.parametrize(
    "orientation", [tilted(21), tilted(-45), [1, 0, 0, 0, 0, -1], [0, 1, 0, 0, 0, -1]]
)
def test_other_planes_are_refused(modality: str | None, orientation: list[float]) -> None:
    message = refusal(slice_of(STORED, Modality=modality, ImageOrientationPatient=orientation))
    assert "axial" in message
    assert "degrees off" in message


@pytest.mark.parametrize("orientation", [[0] * 6, [1, 0, 0, 1, 0, 0], [9, 0, 0, 0, 9, 0], None])
def test_an_orientation_that_is_none_says_nothing(orientation: list[float] | None) -> None:
    assert np.array_equal(
        decode_grey(slice_of(STORED, ImageOrientationPatient=orientation)), EXPECTED
    )


@pytest.mark.parametrize(
    "keyword",
    ["Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation", "SamplesPerPixel",
     "PhotometricInterpretation", "RescaleSlope", "RescaleIntercept"],
)  # fmt: skip
def test_what_is_missing_is_named(keyword: str) -> None:
    message = refusal(file_bytes(slice_dataset(**{keyword: None}))).replace("Rescale ", "Rescale")
    assert f"without {keyword}" in message or f"without a valid {keyword}" in message


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("RescaleSlope", "1e308"), ("RescaleSlope", "-1e9"), ("RescaleSlope", "1e-320"),
     ("RescaleIntercept", "1e308"), ("RescaleIntercept", "-1e7")],
)  # fmt: skip
def test_numbers_that_no_scanner_writes_are_refused(keyword: str, value: str) -> None:
    assert keyword in refusal(file_bytes(slice_dataset(**{keyword: value})))
    window = {"Modality": "OT", "WindowCenter": "1e308", "WindowWidth": "400"}
    assert "WindowCenter" in refusal(file_bytes(slice_dataset(**window)))


JPEGS = [syntax for syntax in ENCODERS if syntax != uid.RLELossless]


@pytest.mark.parametrize("syntax", JPEGS, ids=lambda s: uid.UID(s).keyword)
@pytest.mark.parametrize("padding", [b"\0", b"\x7a", b"\xff", b"\xd9", b"\0\0\0", b"\xff\xff\xff"])
def test_fragments_may_be_padded_with_anything(syntax: str, padding: bytes) -> None:
    frame = ENCODERS[syntax](STORED) + padding
    value = b"\xfe\xff\0\xe0\0\0\0\0"
    half = len(frame) // 2
    for part in (frame[:half], frame[half:]):  # two fragments; the second of any length
        value += b"\xfe\xff\0\xe0" + struct.pack("<I", len(part)) + part
    dataset = slice_dataset(PixelData=value + b"\xfe\xff\xdd\xe0\0\0\0\0")
    assert np.array_equal(decode_grey(file_bytes(dataset, syntax)), EXPECTED)


def test_rle_may_be_padded_too() -> None:
    assert np.array_equal(
        decode_grey(compressed(rle_encode(STORED) + b"z", uid.RLELossless)), EXPECTED
    )


def test_a_header_is_read_without_pixels() -> None:
    data = file_bytes(slice_dataset(**HEADER))
    start = data[: data.index(b"\xe0\x7f\x10\0")]
    assert read_header(start) == read_header(data) == decode(data).header
    coronal = HEADER | {"ImageOrientationPatient": [1, 0, 0, 0, 0, -1], "Modality": "MR"}
    header = read_header(file_bytes(slice_dataset(**coronal)))
    assert header is not None
    assert (header.modality, header.degrees_off_axial) == ("MR", 90)


def test_a_header_gives_the_place_in_a_stack() -> None:
    oblique = [1, 0, 0, 0, 0.8, 0.6]
    header = read_header(
        file_bytes(
            slice_dataset(
                **HEADER
                | {
                    "ImageOrientationPatient": oblique,
                    "ImagePositionPatient": [5, 10, 20],
                    "PixelSpacing": [0.7, 0.8],
                }
            )
        )
    )
    assert header is not None
    assert header.normal == pytest.approx((0, -0.6, 0.8))
    assert header.position_along_normal_mm == pytest.approx(10)
    assert header.pixel_spacing_mm == (0.7, 0.8)
    assert (header.frames, header.degrees_off_axial) == (1, pytest.approx(36.87, abs=0.01))


def test_pictures_have_no_header_and_damaged_files_a_sentence() -> None:
    assert read_header(GREY_PNG) is None
    assert read_header(b"text") is None
    assert read_header(without_meta(SLICE)) is not None
    broken = patched(SLICE, "TransferSyntaxUID", PATIENT.encode())
    with pytest.raises(ScanError, match=r"^Expected .*\.$"):
        read_header(broken[:140] + b"\xff" * 40)
