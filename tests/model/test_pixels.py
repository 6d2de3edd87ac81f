"""The pixels that the model shows are those that it scores."""

from __future__ import annotations

import io

import mlflow
import numpy as np
import pytest
from PIL import Image

from model.decoding.errors import ScanError
from model.decoding.scan_file import decode
from model.pixels import slice_pixels
from tests.model.test_dicom import INTERCEPT_HU, STORED, file_bytes, lung_window, slice_dataset
from tests.model.test_images import GREY, GREY_PNG

PLACED = {
    "PixelSpacing": [0.7, 0.8],
    "ImagePositionPatient": [1.0, 2.0, -33.5],
    "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
    "SeriesInstanceUID": "1.2.3",
}


def test_a_ct_slice_gives_hounsfield_units_and_where_it_lies() -> None:
    data = file_bytes(slice_dataset(**PLACED))
    found = slice_pixels(data)
    assert (found["unit"], found["values"].dtype, found["inverted"]) == ("HU", np.int16, False)
    assert np.array_equal(found["values"], STORED.astype(int) + INTERCEPT_HU)
    assert np.array_equal(lung_window(found["values"]), decode(data).grey)
    where = (found["spacing_mm"], found["position_mm"], found["series"])
    assert where == ((0.7, 0.8), -33.5, "1.2.3")


def test_padding_is_black_in_every_window_and_inversion_is_told() -> None:
    value = int(STORED[0, 0])
    padded = slice_pixels(file_bytes(slice_dataset(PixelPaddingValue=value)))
    assert (padded["values"][value == STORED] == -2000).all()
    inverted = slice_pixels(file_bytes(slice_dataset(PhotometricInterpretation="MONOCHROME1")))
    assert inverted["inverted"] is True
    steep = slice_pixels(file_bytes(slice_dataset(RescaleSlope="900")))
    assert steep["values"].max() == np.iinfo(np.int16).max


def test_pictures_and_captures_give_grey_levels() -> None:
    found = slice_pixels(GREY_PNG)
    assert (found["unit"], found["position_mm"], found["series"]) == ("grey", None, None)
    assert np.array_equal(found["values"], GREY)
    capture = file_bytes(slice_dataset(Modality="OT", RescaleSlope=None, RescaleIntercept=None))
    assert slice_pixels(capture)["unit"] == "grey"
    assert np.array_equal(slice_pixels(capture)["values"], decode(capture).grey)


def test_what_is_not_scored_has_no_pixels_either() -> None:
    coronal = file_bytes(slice_dataset(ImageOrientationPatient=[1, 0, 0, 0, 0, -1]))
    with pytest.raises(ScanError, match="off the body's axis") as caught:
        slice_pixels(coronal)
    assert caught.value.code == "not_axial"
    with pytest.raises(ScanError, match="received a PDF"):
        slice_pixels(b"%PDF-1.7")


def test_the_model_hands_them_out(small_model: object) -> None:
    model = mlflow.pyfunc.load_model(str(small_model)).unwrap_python_model()
    picture = io.BytesIO()
    Image.fromarray(GREY).save(picture, "BMP")
    assert np.array_equal(model.pixels(picture.getvalue())["values"], GREY)
    with pytest.raises(ValueError, match="received a PDF") as caught:
        model.pixels(b"%PDF-1.7")
    assert caught.value.code == "unknown_format"  # type: ignore[attr-defined]
