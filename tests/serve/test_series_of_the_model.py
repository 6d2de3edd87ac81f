"""The product's own model behind HTTP answers a series as it does in Python."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import requests
from PIL import Image

from model.decoding.scan_file import decode
from tests.model.small_model import phantom_png, save_small_model
from tests.model.test_series import CORONAL, UID, answers, broken_at, predict, slice_at, thin_slices
from tests.serve.server_process import ServerProcess, running_serve
from tests.serve.test_zips import post, zipped


@pytest.fixture(scope="module")
def own_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small_model(tmp_path_factory.mktemp("own"))


@pytest.fixture(scope="module")
def server(own_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running_serve(own_model, tmp_path_factory.mktemp("server")) as running:
        yield running


def test_files_a_zip_and_python_give_the_same_answer(
    own_model: Path, server: ServerProcess
) -> None:
    images = thin_slices()
    files = {f"IM{i}": image for i, image in enumerate(images)}
    model = mlflow.pyfunc.load_model(str(own_model))
    python_rows = predict(model, images)
    (expected,) = answers(model, python_rows)
    key = expected.pop("key_slice")

    def check(body: dict[str, Any], prefix: str) -> None:
        (entry,) = body["series"]
        for name, value in expected.items():
            same = pytest.approx(value, abs=1e-6) if isinstance(value, float) else value
            assert entry[name] == same, name
        assert (entry["key_slice"], entry["key_row"]) == (f"{prefix}IM{key}", key)
        assert len(entry["curve"]) == entry["scored"]
        assert max(p["probability"] for p in entry["curve"]) == pytest.approx(
            1 - python_rows["p_normal"][key], abs=1e-6
        )
        for row, other in zip(body["predictions"], python_rows.to_dict("records"), strict=True):
            assert row["skipped"] == other["skipped"]
            assert row["key_slice"] == other["key_slice"]
            assert row["error_code"] == other["error_code"]

    check(post(server, *files.items()).json(), "")
    check(post(server, ("z.zip", zipped(files))).json(), "z.zip/")


def one_series(server: ServerProcess, files: dict[str, bytes], query: str = "") -> dict[str, Any]:
    """Send the files of one series; return its entry and check that nothing is lost."""
    body = post(server, *files.items(), query=query).json()
    assert [row["file"] for row in body["predictions"]] == list(files)
    (entry,) = body["series"]
    assert entry["slices"] == entry["scored"] + entry["skipped"] + entry["failed"] == len(files)
    return body


def test_slices_of_another_orientation_are_left_out_of_an_answer(server: ServerProcess) -> None:
    axial = {f"IM{i}": slice_at(5.0 * i) for i in range(6)}
    scout = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    others = {
        "coronal": slice_at(70.0, ImageOrientationPatient=CORONAL),
        "sagittal": slice_at(75.0, ImageOrientationPatient=[0.0, 1.0, 0.0, 0.0, 0.0, -1.0]),
        "oblique": slice_at(80.0, ImageOrientationPatient=[1.0, 0.0, 0.0, 0.0, 0.7, 0.714]),
        "scout": slice_at(85.0, ImageType=scout, ImageOrientationPatient=CORONAL),
    }
    (expected,) = one_series(server, axial)["series"]
    mixed = dict(sorted((axial | others).items(), key=lambda item: item[0][-1]))
    body = one_series(server, mixed)
    (entry,) = body["series"]
    assert (entry["scored"], entry["failed"]) == (6, 4)
    assert entry["note"] == "4 of 10 slices failed and are left out."
    for name in ("label", "probability", "undecided", "key_slice", "first_mm", "last_mm", "gaps"):
        assert entry[name] == expected[name], name
    told = {row["file"]: row for row in body["predictions"] if row["error"]}
    codes = {name: row["error_code"] for name, row in told.items()}
    assert codes == dict.fromkeys(others, "not_axial") | {"scout": "localizer"}
    for row in told.values():
        assert row["error"].startswith("Expected") and "\n" not in row["error"]
        assert row["error"].count(". ") == 0
    zip_body = post(server, ("z.zip", zipped(mixed))).json()
    assert zip_body["series"][0]["probability"] == expected["probability"]
    assert zip_body["left_out"] == []


def test_odd_series_say_what_is_odd(server: ServerProcess) -> None:
    hole = {f"{i}": slice_at(5.0 * i) for i in (0, 1, 2, 5, 6, 9)}
    twice = {f"{i}": slice_at(5.0 * (i // 2), seed=i % 2) for i in range(6)}
    failed = {f"{i}": broken_at(5.0 * i) for i in range(3)}
    told = {
        "Slices are missing at 2 places.": hole,
        "3 positions occur more than once, as where two series have one name.": twice,
        "It has one slice only.": {"a": slice_at(5.0)},
    }
    for note, files in told.items():
        (entry,) = one_series(server, files, "?series=true")["series"]
        assert entry["note"] == note
        assert entry["label"] and entry["error"] is None
        assert entry["key_slice"] in files
    body = one_series(server, failed)
    (entry,) = body["series"]
    assert (entry["label"], entry["probability"], entry["key_slice"]) == (None, None, None)
    assert entry["error"].startswith(
        "None of the 3 slices of this series could be scored (3 failed"
    )
    assert all(row["error_code"] == "damaged" for row in body["predictions"])


def test_invocations_answers_series_as_the_pyfunc_does(
    own_model: Path, server: ServerProcess
) -> None:
    images = [*thin_slices()[::6], phantom_png(1)]
    names = [None if i % 4 == 3 else f"s{i % 2}" for i in range(len(images))]
    model = mlflow.pyfunc.load_model(str(own_model))
    table = pd.DataFrame({"image": [base64.b64encode(i).decode() for i in images], "series": names})
    file = io.BytesIO()
    table.to_parquet(file)
    forms = {
        "application/json": [
            json.dumps({"dataframe_split": table.to_dict("split")}),
            json.dumps({"dataframe_records": table.to_dict("records")}),
        ],
        "text/csv": [table.to_csv(index=False)],
        "application/vnd.apache.parquet": [file.getvalue()],
    }
    for kind, bodies in forms.items():
        for body in bodies:
            rows = invoked(server, body, kind)
            assert_rows(rows, model.predict(table))
    own = {"dataframe_split": table[["image"]].to_dict("split"), "params": {"series": True}}
    rows = invoked(server, json.dumps(own), "application/json")
    assert {row["series"] for row in rows} == {UID, None}
    assert_rows(rows, model.predict(table[["image"]], params={"series": True}))


def invoked(server: ServerProcess, body: str | bytes, kind: str) -> list[dict[str, Any]]:
    answer = requests.post(
        f"{server.url}/invocations", body, headers={"Content-Type": kind}, timeout=60
    )
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, Any]] = answer.json()["predictions"]
    return rows


def assert_rows(rows: list[dict[str, Any]], expected: pd.DataFrame) -> None:
    assert [list(row) for row in rows] == [list(expected.columns)] * len(expected)
    for row, other in zip(rows, expected.to_dict("records"), strict=True):
        for name, value in other.items():
            same = pytest.approx(value, abs=1e-6) if isinstance(value, float) else value
            assert row[name] == same, name


def test_a_pictures_zip_is_scored_without_series(server: ServerProcess) -> None:
    pictures = {f"{i}.png": phantom_png(i) for i in range(3)}
    body = post(server, ("z.zip", zipped(pictures))).json()
    assert body["series"] == []
    assert all(row["label"] and row["series"] is None for row in body["predictions"])


def test_what_the_model_is(server: ServerProcess) -> None:
    about = requests.get(f"{server.url}/model", timeout=10).json()
    assert about["healthy_classes"] == ["normal"]
    assert about["series_threshold"] == 0.5
    assert about["answers_series"] is True and about["returns_pixels"] is True


def test_pixels_are_those_that_are_scored(server: ServerProcess) -> None:
    image = thin_slices()[0]
    answer = requests.post(
        f"{server.url}/pixels?format=png", files={"files": ("a.dcm", image)}, timeout=30
    )
    shown = np.asarray(Image.open(io.BytesIO(answer.content)))
    assert np.abs(shown.astype(int) - decode(image).grey).max() <= 1
    refused = requests.post(
        f"{server.url}/pixels", files={"files": ("a.dcm", thin_slices()[-1])}, timeout=30
    )
    assert (refused.status_code, refused.json()["error_code"]) == (422, "damaged")
