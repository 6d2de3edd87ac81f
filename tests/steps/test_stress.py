"""Stress changes alter files, not what the scans show."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from model.decoding.scan_file import decode_grey
from scans.phantom.drawing import make_phantom
from steps.evaluation.non_scans import non_scans
from steps.evaluation.stress import changed_files, stress_rows, stress_score, worst_row

GREY = make_phantom(3, nodule=True, image_size_px=(200, 150)).image
DONOR = (make_phantom(4, nodule=False, image_size_px=(160, 120)).image // 2 + 100).astype(np.uint8)
CHANGES = stress_rows({"adenocarcinoma": [GREY], "normal": [DONOR]})


def png(grey: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(grey).save(file, "PNG")
    return file.getvalue()


def changed(name: str) -> NDArray[np.uint8]:
    return decode_grey(changed_files([png(GREY)], ["adenocarcinoma"], CHANGES[name], seed=0)[0])


def test_every_row_of_the_table_is_there() -> None:
    kinds = ("brightness", "contrast", "gamma", "histogram", "JPEG", "PNG", "resized", "border",
             "painted", "mirrored")  # fmt: skip
    for kind in kinds:
        assert any(kind in name for name in CHANGES), kind


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_gives_a_scan_and_the_same_one_again(name: str) -> None:
    first, second = changed(name), changed(name)
    np.testing.assert_array_equal(first, second)
    if name != "PNG":
        assert first.shape != GREY.shape or (first != GREY).any()


def test_what_the_changes_do() -> None:
    np.testing.assert_array_equal(changed("PNG"), GREY)
    np.testing.assert_array_equal(changed("mirrored"), GREY[:, ::-1])
    assert changed("brightness x 0.6").mean() == pytest.approx(0.6 * GREY.mean(), rel=0.02)
    assert changed("contrast x 0.6").std() == pytest.approx(0.6 * GREY.std(), rel=0.02)
    assert changed("contrast x 0.6").mean() == pytest.approx(GREY.mean(), rel=0.02)
    assert changed("gamma 0.6").mean() > GREY.mean() > changed("gamma 1.6").mean()
    assert changed("border cut off").shape == (132, 176)
    painted = (changed("painted lines") != GREY).mean()
    assert 0 < painted < 0.1


def test_tones_come_from_the_other_class() -> None:
    toned = changed("histogram of the other class")
    assert abs(toned.mean() - DONOR.mean()) < 0.5 * abs(GREY.mean() - DONOR.mean())
    brighter = np.argsort(GREY, axis=None, kind="stable")
    assert (np.diff(toned.ravel()[brighter].astype(int)) >= 0).all()  # no place changes its rank


def test_scores_and_headline() -> None:
    actual = np.array([0, 0, 0, 1])
    row = stress_score(
        actual, np.array([0, 0, 0, 0]), actual, np.array([True, False, False, False])
    )
    assert row == {
        "balanced_accuracy": 0.5, "accuracy": 0.75, "same_answer": 0.75,
        "flagged_out_of_domain": 0.25, "n": 4,
    }  # fmt: skip
    rows = {"a": {"balanced_accuracy": 0.9}, "b": {"balanced_accuracy": 0.8}}
    assert worst_row(rows) == {"row": "b", "balanced_accuracy": 0.8}


def test_odd_pictures_are_decodable_and_differ() -> None:
    kinds = non_scans()
    assert set(kinds) == {
        "blank", "noise", "blurred noise", "gradient", "text", "photograph",
        "MR", "ultrasound", "nuclear", "CT of other body parts", "other DICOM",
    }  # fmt: skip
    for kind, files in kinds.items():
        different = {decode_grey(file).tobytes() for file in files}
        assert len(different) >= min(2, len(files)), kind
