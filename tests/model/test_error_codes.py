"""Every reason why a scan is not scored has one stable word."""

from __future__ import annotations

import ast
import pickle
import re
from pathlib import Path
from typing import get_args

import mlflow
import pandas as pd
import pytest

from model.decoding.errors import ErrorCode, ScanError
from model.decoding.scan_file import decode, scan_bytes
from tests.model.small_model import phantom_png
from tests.model.test_dicom import file_bytes, slice_dataset
from tests.model.test_images import GREY_PNG, png_header

ROOT = Path(__file__).resolve().parents[2]
CODES = set(get_args(ErrorCode))
CORONAL = [1, 0, 0, 0, 0, -1]
REASONS: dict[str, object] = {
    "empty": None,
    "wrong_type": 7,
    "not_base64": "scan.png",
    "unknown_format": b"%PDF-1.7 of a report",
    "damaged": GREY_PNG[: len(GREY_PNG) // 2],
    "too_small": png_header(16, 16),
    "too_large": png_header(20_000, 20_000),
    "not_a_slice": png_header(64, 6400),
    "wrong_modality": file_bytes(slice_dataset(Modality="MR")),
    "localizer": file_bytes(slice_dataset(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])),
    "not_axial": file_bytes(slice_dataset(ImageOrientationPatient=CORONAL)),
    "screen_capture": file_bytes(
        slice_dataset(
            ImageType=["DERIVED", "SECONDARY", "SCREEN SAVE"], ImageOrientationPatient=None
        )
    ),
    "several_images": file_bytes(slice_dataset(NumberOfFrames=2)),
    "colour": file_bytes(slice_dataset(PhotometricInterpretation="RGB")),
    "no_hounsfield_units": file_bytes(slice_dataset(RescaleSlope=None)),
    "missing_element": file_bytes(slice_dataset(BitsStored=None)),
    "invalid_element": file_bytes(slice_dataset(RescaleSlope=1e9)),
}


@pytest.mark.parametrize("code", REASONS)
def test_a_reason_has_its_code(code: str) -> None:
    with pytest.raises(ScanError, match=r"^Expected .*received") as caught:
        decode(scan_bytes(REASONS[code]))
    assert caught.value.code == code


def test_the_document_lists_every_code_and_the_decoder_uses_every_one() -> None:
    text = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    section = text.split("### Error codes of rows")[1].split("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)[1:] == list(get_args(ErrorCode))
    raised = {
        node.args[0].value
        for path in (ROOT / "model").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "ScanError"
        if isinstance(node.args[0], ast.Constant)
    }
    assert raised == CODES


def test_rows_carry_code_and_sentence_together(small_model: Path) -> None:
    model = mlflow.pyfunc.load_model(str(small_model))
    images = [phantom_png(1), None, REASONS["not_axial"], b"%PDF-"]
    rows = model.predict(pd.DataFrame({"image": images}))
    assert rows["error_code"].tolist() == [None, "empty", "not_axial", "unknown_format"]
    assert rows["error"].notna().tolist() == rows["error_code"].notna().tolist()


def test_an_error_reaches_another_process_whole() -> None:
    error = ScanError("damaged", "Expected a whole file, received half of one; send it again.")
    again = pickle.loads(pickle.dumps(error))
    assert (again.code, str(again)) == (error.code, str(error))
    assert isinstance(again, ValueError)
