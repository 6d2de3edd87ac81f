"""The product's own model behind HTTP answers a series as it does in Python."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import requests
from PIL import Image

from model.decoding.scan_file import decode
from tests.model.small_model import phantom_png, save_small_model
from tests.model.test_series import answers, predict, thin_slices
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
