"""DICOM slices: the same windowed pixels as a PNG gives, and never a word about the patient."""

from __future__ import annotations

import io
import logging
import struct
import traceback
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom import uid
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_rescale, apply_windowing
from pydicom.pixels.encoders import RLELosslessEncoder

from model.decoding.decoded import DicomHeader
from model.decoding.dicom import is_dicom
from model.decoding.errors import ScanError
from model.decoding.scan_file import decode, decode_grey
from tests.model.test_images import encode, refusal

PATIENT = "ZZYZX^QUENTINA"
HU = np.linspace(-1380, 400, 96 * 128).reshape(96, 128).round().astype(np.int16)
HU += np.random.default_rng(3).integers(-30, 30, HU.shape, dtype=np.int16)
INTERCEPT_HU = -1500
STORED = (HU - INTERCEPT_HU).astype(np.uint16)
BIG_ENDIAN = uid.ExplicitVRBigEndian


def lung_window(hu: NDArray[np.integer]) -> NDArray[np.uint8]:
    """The linear window of PS3.3 C.11.2.1.2.1, case by case, centre -600 and width 1500 HU."""
    centre, width = -600, 1500
    grey = ((hu - (centre - 0.5)) / (width - 1) + 0.5) * 255
    grey = np.where(hu <= centre - 0.5 - (width - 1) / 2, 0, grey)
    grey = np.where(hu > centre - 0.5 + (width - 1) / 2, 255, grey)
    return np.rint(grey).astype(np.uint8)


EXPECTED = lung_window(HU.astype(int))


def slice_dataset(stored: NDArray[np.integer] = STORED, **elements: object) -> Dataset:
    """A CT slice of a patient; an element given as None is left out."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    values: dict[str, object] = {
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "SOPClassUID": uid.CTImageStorage,
        "SOPInstanceUID": "1.2.3.4",
        "Modality": "CT",
        "PatientName": PATIENT,
        "PatientID": PATIENT,
        "PatientComments": PATIENT,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": stored.shape[0],
        "Columns": stored.shape[1],
        "BitsAllocated": 8 * stored.itemsize,
        "BitsStored": 12 if stored.dtype == np.uint16 else 8 * stored.itemsize,
        "PixelRepresentation": int(stored.dtype.kind == "i"),
        "RescaleIntercept": str(INTERCEPT_HU),
        "RescaleSlope": "1",
        "PixelData": stored.tobytes(),
        **elements,
    }
    for keyword, value in values.items():
        if value is not None:
            setattr(dataset, keyword, value)
    dataset.HighBit = max(dataset.get("BitsStored", 16), 1) - 1
    dataset["PixelData"].VR = "OW"
    return dataset


def file_bytes(dataset: Dataset, syntax: str = uid.ExplicitVRLittleEndian) -> bytes:
    """Write a DICOM file."""
    dataset.file_meta.TransferSyntaxUID = uid.UID(syntax)
    if uid.UID(syntax).is_encapsulated:
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some tests write values that pydicom warns about
        dataset.save_as(
            file,
            enforce_file_format=True,
            little_endian=syntax != BIG_ENDIAN,
            implicit_vr=syntax == uid.ImplicitVRLittleEndian,
        )
    return file.getvalue()


def compressed(frame: bytes, syntax: str, stored: NDArray[np.integer] = STORED) -> bytes:
    """Write a DICOM file with one encapsulated frame."""
    return file_bytes(slice_dataset(stored, PixelData=encapsulate([frame])), syntax)


def rle_encode(stored: NDArray[np.integer]) -> bytes:
    """Encode with pydicom, an encoder other than the decoder's library."""
    return RLELosslessEncoder.encode(
        stored.tobytes(),
        rows=stored.shape[0],
        columns=stored.shape[1],
        samples_per_pixel=1,
        bits_allocated=8 * stored.itemsize,
        bits_stored=8 * stored.itemsize,
        pixel_representation=0,
        photometric_interpretation="MONOCHROME2",
        number_of_frames=1,
    )


SLICE = file_bytes(slice_dataset())
ENCODERS: dict[str, Callable[[NDArray[np.integer]], bytes]] = {
    uid.RLELossless: rle_encode,
    uid.JPEGLosslessSV1: lambda a: imagecodecs.jpeg8_encode(a, lossless=True, bitspersample=16),
    uid.JPEGLossless: lambda a: imagecodecs.jpeg8_encode(
        a, lossless=True, bitspersample=16, predictor=4
    ),
    uid.JPEGLSLossless: imagecodecs.jpegls_encode,
    uid.JPEG2000Lossless: lambda a: imagecodecs.jpeg2k_encode(
        a, codecformat="j2k", reversible=True, level=0
    ),
    uid.HTJ2KLossless: lambda a: imagecodecs.htj2k_encode(a, reversible=True),
}


def test_a_dicom_and_a_png_of_the_same_windowed_pixels_are_one_scan() -> None:
    assert np.array_equal(decode_grey(SLICE), EXPECTED)
    assert np.array_equal(decode_grey(SLICE), decode_grey(encode(Image.fromarray(EXPECTED), "PNG")))
    assert (EXPECTED.min(), EXPECTED.max()) == (0, 255)


@pytest.mark.parametrize(
    ("hu", "grey"), [(-1351, 0), (-1350, 0), (-601, 127), (-600, 128), (149, 255), (3000, 255)]
)
def test_the_lung_window_ends_where_it_should(hu: int, grey: int) -> None:
    stored = np.full((64, 64), hu, np.int16)
    pixels = decode_grey(file_bytes(slice_dataset(stored, RescaleIntercept="0")))
    assert (pixels == grey).all()


@pytest.mark.parametrize(
    "syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, BIG_ENDIAN]
)
@pytest.mark.parametrize("stored", [STORED, STORED.astype(np.int16)], ids=["unsigned", "signed"])
def test_uncompressed(syntax: str, stored: NDArray[np.integer]) -> None:
    swapped = stored.byteswap() if syntax == BIG_ENDIAN else stored
    dataset = slice_dataset(stored, PixelData=swapped.tobytes())
    assert np.array_equal(decode_grey(file_bytes(dataset, syntax)), EXPECTED)


def test_deflated() -> None:
    data = file_bytes(slice_dataset(), uid.DeflatedExplicitVRLittleEndian)
    assert len(data) < len(SLICE)
    assert np.array_equal(decode_grey(data), EXPECTED)


@pytest.mark.parametrize("syntax", ENCODERS, ids=lambda syntax: uid.UID(syntax).keyword)
def test_lossless_compression(syntax: str) -> None:
    data = compressed(ENCODERS[syntax](STORED), syntax)
    assert np.array_equal(decode_grey(data), EXPECTED)


@pytest.mark.parametrize(
    ("syntax", "frame"),
    [
        (uid.JPEGExtended12Bit, imagecodecs.jpeg8_encode(STORED, level=98, bitspersample=12)),
        (uid.JPEGLSNearLossless, imagecodecs.jpegls_encode(STORED, level=4)),
        (uid.JPEG2000, imagecodecs.jpeg2k_encode(STORED, level=70, codecformat="j2k")),
    ],
    ids=["jpeg-extended", "jpeg-ls", "jpeg-2000"],
)
def test_lossy_compression_comes_close(syntax: str, frame: bytes) -> None:
    difference = decode_grey(compressed(frame, syntax)).astype(int) - EXPECTED
    assert np.abs(difference).mean() < 3
    assert difference.any()


def test_jpeg_baseline_secondary_capture() -> None:
    frame = imagecodecs.jpeg8_encode(EXPECTED, level=95)
    dataset = slice_dataset(EXPECTED, Modality="OT", PixelData=encapsulate([frame]))
    pixels = decode_grey(file_bytes(dataset, uid.JPEGBaseline8Bit))
    assert np.abs(pixels.astype(int) - EXPECTED).mean() < 2


def test_a_frame_in_several_fragments() -> None:
    frame = ENCODERS[uid.JPEGLSLossless](STORED)
    dataset = slice_dataset(PixelData=encapsulate([frame], fragments_per_frame=3))
    assert np.array_equal(decode_grey(file_bytes(dataset, uid.JPEGLSLossless)), EXPECTED)


@pytest.mark.parametrize("name", ["CT_small.dcm", "693_J2KI.dcm", "J2K_pixelrep_mismatch.dcm"])
def test_pydicom_renders_its_ct_files_alike(name: str) -> None:
    path = get_testdata_file(name)
    dataset = pydicom.dcmread(path)
    dataset.WindowCenter, dataset.WindowWidth = -600, 1500
    dataset.BitsStored, dataset.PixelRepresentation = 16, 1  # the windowing's output range
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stored = pydicom.dcmread(path).pixel_array
    windowed = apply_windowing(apply_rescale(stored, dataset), dataset)
    span = windowed.max() - windowed.min()
    assert span > 0
    as_stored = pydicom.dcmread(path)
    as_stored.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]  # one of them is tilted by 22 degrees
    file = io.BytesIO()
    as_stored.save_as(file)
    grey = decode_grey(file.getvalue())
    low, high = grey.min(), grey.max()
    alike = low + (windowed - windowed.min()) / span * (int(high) - low)
    assert np.abs(grey - alike).max() <= 1


@pytest.mark.parametrize(
    "name",
    [
        "MR_small_RLE.dcm",
        "MR_small_jp2klossless.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
        "MR_small_implicit.dcm",
        "MR_small_bigendian.dcm",
        "MR_small_padded.dcm",
    ],
)
def test_other_writers_compressed_files_hold_the_same_slice(name: str) -> None:
    def as_ct(file: str) -> NDArray[np.uint8]:
        data = Path(get_testdata_file(file)).read_bytes()
        big_endian = "bigendian" in file
        old, new = (b"\0\x08\0\x60CS\0\x02", 0) if big_endian else (b"\x08\0\x60\0", 0)
        at = data.index(old, new) + 8
        assert data[at : at + 2] == b"MR"
        return decode_grey(data[:at] + b"OT" + data[at + 2 :])

    assert np.array_equal(as_ct(name), as_ct("MR_small.dcm"))
    assert as_ct(name).std() > 10


def test_slope_and_intercept_are_applied() -> None:
    dataset = slice_dataset((HU * 2).astype(np.int16), RescaleSlope="0.5", RescaleIntercept="0")
    assert np.array_equal(decode_grey(file_bytes(dataset)), lung_window(HU.astype(int)))


def test_bits_beyond_those_stored_are_ignored() -> None:
    with_overlay = STORED | np.uint16(0x8000)
    assert np.array_equal(decode_grey(file_bytes(slice_dataset(with_overlay))), EXPECTED)


def test_monochrome1_is_shown_inverted() -> None:
    data = file_bytes(slice_dataset(PhotometricInterpretation="MONOCHROME1"))
    assert np.array_equal(decode_grey(data), 255 - EXPECTED)


def test_a_window_in_the_file_does_not_change_a_ct() -> None:
    data = file_bytes(slice_dataset(WindowCenter="40", WindowWidth="400"))
    assert np.array_equal(decode_grey(data), EXPECTED)


def test_a_secondary_capture_is_a_plain_picture() -> None:
    no_rescale = {"RescaleSlope": None, "RescaleIntercept": None}
    for modality in ("OT", None):
        dataset = slice_dataset(EXPECTED, Modality=modality, **no_rescale)
        assert np.array_equal(decode_grey(file_bytes(dataset)), EXPECTED)
    deep = slice_dataset(STORED, Modality="OT", **no_rescale)
    as_png = encode(Image.fromarray(STORED), "PNG")
    assert np.array_equal(decode_grey(file_bytes(deep)), decode_grey(as_png))


def test_a_secondary_capture_gets_its_own_window() -> None:
    dataset = slice_dataset(
        Modality="OT", RescaleSlope=None, RescaleIntercept=None, WindowCenter=900, WindowWidth=1500
    )
    assert np.array_equal(decode_grey(file_bytes(dataset)), EXPECTED)


HEADER = {
    "PatientID": "ZZYZX-4711",
    "IssuerOfPatientID": "ZZYZX HOSPITAL",
    "StudyInstanceUID": "1.2.3",
    "SeriesInstanceUID": "1.2.3.1",
    "SOPInstanceUID": "1.2.3.1.77",
    "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
    "ImagePositionPatient": ["-180.5", -170, 42.25],
    "SliceThickness": "2.5",
    "Manufacturer": "Scanner Works",
    "ConvolutionKernel": "B70f",
}


@pytest.mark.parametrize(
    "syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, BIG_ENDIAN]
)
@pytest.mark.parametrize("bare", [False, True], ids=["part-10", "no-preamble"])
def test_the_header_is_read_with_the_pixels(syntax: str, bare: bool) -> None:
    swapped = STORED.byteswap() if syntax == BIG_ENDIAN else STORED
    data = file_bytes(slice_dataset(PixelData=swapped.tobytes(), **HEADER), syntax)
    scan = decode(without_meta(data) if bare else data)
    assert np.array_equal(scan.grey, EXPECTED)
    assert (scan.width, scan.height, scan.mode, scan.format) == (128, 96, "MONOCHROME2", "DICOM")
    assert scan.header == DicomHeader(
        sop_class_uid=uid.CTImageStorage,
        modality="CT",
        image_type=("ORIGINAL", "PRIMARY", "AXIAL"),
        patient_id="ZZYZX-4711",
        patient_id_issuer="ZZYZX HOSPITAL",
        study_uid="1.2.3",
        series_uid="1.2.3.1",
        sop_instance_uid="1.2.3.1.77",
        orientation=(1, 0, 0, 0, 1, 0),
        position_mm=(-180.5, -170, 42.25),
        slice_thickness_mm=2.5,
        manufacturer="Scanner Works",
        kernel="B70f",
    )


def test_a_header_keeps_its_identifiers_out_of_logs() -> None:
    scan = decode(file_bytes(slice_dataset(**HEADER)))
    assert "Scanner Works" in repr(scan)
    for secret in ("ZZYZX", "4711", "1.2.3"):
        assert secret not in repr(scan).replace(uid.CTImageStorage, "")


def test_what_a_header_lacks_is_empty_or_none() -> None:
    header = decode(SLICE).header
    assert header is not None
    assert (header.series_uid, header.manufacturer, header.kernel) == ("", "", "")
    assert (header.orientation, header.position_mm, header.slice_thickness_mm) == (None,) * 3
    header = decode(patched(file_bytes(slice_dataset(**HEADER)), "SliceThickness", b"thin")).header
    assert header is not None
    assert header.slice_thickness_mm is None


@pytest.mark.parametrize(
    ("charset", "patient"), [("ISO_IR 100", "MÜLLER-1"), ("ISO_IR 192", "MÜLLER-1"), (None, "M-1")]
)
def test_a_patient_has_one_id_in_every_character_set(charset: str | None, patient: str) -> None:
    header = decode(
        file_bytes(slice_dataset(SpecificCharacterSet=charset, PatientID=patient))
    ).header
    assert header is not None
    assert header.patient_id == patient


def without_meta(data: bytes) -> bytes:
    """Strip preamble and file meta information."""
    (length,) = struct.unpack_from("<I", data, 140)
    return data[144 + length :]


@pytest.mark.parametrize(
    "syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, BIG_ENDIAN]
)
def test_files_without_preamble_are_recognised(syntax: str) -> None:
    swapped = STORED.byteswap() if syntax == BIG_ENDIAN else STORED
    bare = without_meta(file_bytes(slice_dataset(PixelData=swapped.tobytes()), syntax))
    assert is_dicom(bare)
    assert np.array_equal(decode_grey(bare), EXPECTED)


def test_a_preamble_that_passes_for_a_tiff_is_still_dicom() -> None:
    assert np.array_equal(decode_grey(b"II*\0" + SLICE[4:]), decode_grey(SLICE))


@pytest.mark.parametrize(
    ("elements", "received"),
    [
        ({"Modality": "MR"}, "a magnetic resonance image"),
        ({"Modality": "CR"}, "a computed radiograph"),
        ({"Modality": "ECG"}, "another modality"),
        ({"RescaleSlope": None}, "Hounsfield units are unknown"),
        ({"RescaleIntercept": None}, "Hounsfield units are unknown"),
        ({"RescaleSlope": "0"}, "Hounsfield units are unknown"),
        ({"NumberOfFrames": 12}, "a multi-frame file"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "a localizer"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "a colour picture"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "a colour picture"),
        ({"Rows": 60_000, "Columns": 60_000}, "60000 x 60000 pixels"),
        ({"Rows": 8, "Columns": 8}, "8 x 8 pixels"),
        ({"Rows": 97}, "received 24576"),
        ({"Rows": None}, "without a valid Rows"),
        ({"BitsAllocated": 32, "BitsStored": 32}, "32 bits allocated"),
        ({"BitsAllocated": 16, "BitsStored": 17}, "17 stored"),
        ({"BitsAllocated": 16, "BitsStored": 0}, "0 stored"),
    ],
)
def test_what_is_no_ct_slice_is_refused(elements: dict[str, object], received: str) -> None:
    message = refusal(file_bytes(slice_dataset(**elements)))
    assert received in message
    assert PATIENT[:5] not in message


def test_missing_pixels_are_refused() -> None:
    dataset = slice_dataset()
    del dataset.PixelData
    assert "without pixel data" in refusal(SLICE[: SLICE.index(b"\xe0\x7f\x10\0")])
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    assert "without pixel data" in refusal(file.getvalue())


@pytest.mark.parametrize("share", [0.03, 0.2, 0.9, 0.999])
def test_truncated_files_are_refused(share: float) -> None:
    refusal(SLICE[: int(len(SLICE) * share)])
    data = compressed(ENCODERS[uid.JPEGLSLossless](STORED), uid.JPEGLSLossless)
    refusal(data[: int(len(data) * share)])


def test_unknown_transfer_syntaxes_are_refused() -> None:
    assert "transfer syntax" in refusal(compressed(b"\0\0\1\xb3", uid.MPEG2MPML))


@pytest.mark.parametrize("syntax", ENCODERS, ids=lambda syntax: uid.UID(syntax).keyword)
def test_a_codestream_of_another_size_is_refused(syntax: str) -> None:
    frame = ENCODERS[syntax](np.zeros((2048, 2048), np.uint16))
    assert "received others" in refusal(compressed(frame, syntax)) or syntax == uid.RLELossless


@pytest.mark.parametrize("syntax", ENCODERS, ids=lambda syntax: uid.UID(syntax).keyword)
def test_a_codestream_cut_short_is_refused(syntax: str) -> None:
    frame = ENCODERS[syntax](STORED)
    for share in (0.3, 0.95):
        refusal(compressed(frame[: int(len(frame) * share)], syntax))


@pytest.mark.parametrize(
    "syntax", [uid.JPEGLosslessSV1, uid.JPEGLossless, uid.JPEGLSLossless, uid.JPEGExtended12Bit]
)
def test_a_codestream_that_was_cut_and_closed_again_is_refused(syntax: str) -> None:
    twelve_bits = imagecodecs.jpeg8_encode(STORED, level=98, bitspersample=12)
    frame = ENCODERS[syntax](STORED) if syntax in ENCODERS else twelve_bits
    for share in (0.4, 0.7, 0.9):
        message = refusal(compressed(frame[: int(len(frame) * share)] + b"\xff\xd9", syntax))
        assert "cut short" in message


def test_whole_slices_with_the_middle_value_in_a_corner_are_taken() -> None:
    stored = STORED.copy()
    stored[-16:] = 2048
    twelve = imagecodecs.jpeg8_encode(stored, lossless=True, bitspersample=12)
    grey = decode_grey(compressed(twelve, uid.JPEGLosslessSV1, stored))
    assert np.array_equal(grey, lung_window(stored.astype(int) + INTERCEPT_HU))


@pytest.mark.parametrize("syntax", [uid.JPEG2000, uid.JPEGBaseline8Bit, uid.JPEGLSLossless])
def test_a_codestream_that_claims_a_bombs_size_is_refused(syntax: str) -> None:
    frame = bytearray(
        {
            uid.JPEG2000: ENCODERS[uid.JPEG2000Lossless],
            uid.JPEGLSLossless: ENCODERS[uid.JPEGLSLossless],
            uid.JPEGBaseline8Bit: lambda _: imagecodecs.jpeg8_encode(EXPECTED),
        }[syntax](STORED)
    )
    if syntax == uid.JPEG2000:
        struct.pack_into(">II", frame, 8, 60_000, 60_000)
    else:
        marker = b"\xff\xf7" if syntax == uid.JPEGLSLossless else b"\xff\xc0"
        struct.pack_into(">HH", frame, frame.index(marker) + 5, 60_000, 60_000)
    assert "received others" in refusal(compressed(bytes(frame), syntax))


def test_a_deflate_bomb_is_refused() -> None:
    data = file_bytes(slice_dataset(), uid.DeflatedExplicitVRLittleEndian)
    body = without_meta(data)
    whole = zlib.decompress(body, -zlib.MAX_WBITS)
    for bomb, received in ((whole + bytes(2**25), "inflates to over"), (bytes(2**25), "parts")):
        squeezer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        deflated = squeezer.compress(bomb) + squeezer.flush()
        assert len(deflated) < 2**17
        assert received in refusal(data[: -len(body)] + deflated)


def patched(data: bytes, keyword: str, value: bytes) -> bytes:
    """Put raw bytes in place of an element's value in an explicit little-endian file."""
    tag = pydicom.tag.Tag(keyword)
    vr = pydicom.datadict.dictionary_VR(tag).encode()
    at = data.index(struct.pack("<HH", tag.group, tag.element) + vr) + 6
    (length,) = struct.unpack_from("<H", data, at)
    return data[:at] + struct.pack("<H", len(value)) + value + data[at + 2 + length :]


def corrupt_slices() -> dict[str, bytes]:
    """Files in which a patient's name stands where another value should."""
    name = PATIENT.encode()
    capture = file_bytes(
        slice_dataset(Modality="OT", WindowCenter="1", WindowWidth="400", NumberOfFrames=1)
    )
    files = {
        keyword: patched(SLICE, keyword, name)
        for keyword in (
            "RescaleSlope",
            "RescaleIntercept",
            "PhotometricInterpretation",
            "ImageType",
            "Modality",
            "Rows",
            "BitsStored",
        )
    }
    for keyword in ("NumberOfFrames", "WindowCenter", "WindowWidth"):
        files[keyword] = patched(capture, keyword, name)
    with_charset = file_bytes(slice_dataset(SpecificCharacterSet="ISO_IR 100"))
    files["SpecificCharacterSet"] = patched(with_charset, "SpecificCharacterSet", name)
    start = SLICE.index(name)
    files["a length beyond the file"] = SLICE[: start - 2] + b"\xff\xff" + SLICE[start:]
    files["the transfer syntax"] = patched(SLICE, "TransferSyntaxUID", name)
    return files


@pytest.mark.parametrize("name", corrupt_slices())
def test_a_patients_name_reaches_no_error_log_or_warning(
    name: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    data = corrupt_slices()[name]
    caplog.clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            decode_grey(data)
            said = ""
        except ScanError as error:
            assert error.__cause__ is None
            assert error.__context__ is None
            said = str(error)
            # Only the innermost line of a traceback could quote a value; locals are not printed.
            said += "".join(traceback.format_exception_only(error))
    said += caplog.text + "".join(str(warning.message) for warning in caught)
    said += "".join(capfd.readouterr())
    assert "ZZYZX" not in said
    assert "QUENTINA" not in said


def test_pydicom_would_have_said_the_name(caplog: pytest.LogCaptureFixture) -> None:
    """Show that the test above can fail: pydicom's own reader does quote such values."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pydicom.dcmread(io.BytesIO(corrupt_slices()["SpecificCharacterSet"]))
    assert PATIENT in caplog.text


def test_threads_get_the_same_arrays() -> None:
    files = [SLICE, *(compressed(ENCODERS[s](STORED), s) for s in ENCODERS)] * 6
    with ThreadPoolExecutor(8) as pool:
        assert all(np.array_equal(grey, EXPECTED) for grey in pool.map(decode_grey, files))


@pytest.mark.parametrize(
    "syntax",
    [uid.ExplicitVRLittleEndian, *ENCODERS],
    ids=lambda syntax: uid.UID(syntax).keyword,
)
def test_any_bytes_give_an_array_or_a_scan_error(syntax: str) -> None:
    rng = np.random.default_rng(len(syntax))
    intact = SLICE if syntax not in ENCODERS else compressed(ENCODERS[syntax](STORED), syntax)
    outcomes = set()
    for _ in range(120):
        data = bytearray(intact[: rng.integers(1, len(intact))] if rng.random() < 0.2 else intact)
        for place in rng.integers(0, min(1500, len(data)), rng.integers(1, 5)):
            data[place] = rng.integers(256)
        try:
            outcomes.add(f"{decode_grey(bytes(data)).ndim} axes")
        except ScanError as error:
            assert error.__context__ is None
            assert PATIENT not in str(error)
            outcomes.add("refused")
    assert outcomes == {"2 axes", "refused"}
