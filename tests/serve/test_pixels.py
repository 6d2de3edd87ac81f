"""POST /pixels: what the decoder saw, raw or as a picture."""

from __future__ import annotations

import io

import numpy as np
import pytest
import requests
from PIL import Image

from serve.pixels import MAX_PIXELS, grey_png, windowed
from tests.serve.conftest import KEYS, png
from tests.serve.server_process import ServerProcess
from tests.serve.trial_model import dicom

SCAN = dicom("1.2", 12.5, png(100))
GREY = np.asarray(Image.open(io.BytesIO(png(100))))


def ask(server: ServerProcess, *scans: bytes, query: str = "") -> requests.Response:
    files = [("files", (f"{i}.dcm", scan)) for i, scan in enumerate(scans)]
    return requests.post(f"{server.url}/pixels{query}", files=files, timeout=30)


def test_hounsfield_units_with_size_spacing_and_position(trial_server: ServerProcess) -> None:
    answer = ask(trial_server, SCAN)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/octet-stream"
    headers = {name: answer.headers.get(name) for name in ("X-Unit", "X-Dtype", "X-Inverted")}
    assert headers == {"X-Unit": "HU", "X-Dtype": "int16", "X-Inverted": "0"}
    assert (answer.headers["X-Spacing-Mm"], answer.headers["X-Position-Mm"]) == (
        "0.5,0.8",
        "12.500",
    )
    shape = int(answer.headers["X-Height"]), int(answer.headers["X-Width"])
    values = np.frombuffer(answer.content, "<i2").reshape(shape)
    assert np.array_equal(values, 8 * GREY.astype(np.int16) - 1000)


def test_grey_levels_of_a_picture(trial_server: ServerProcess) -> None:
    answer = ask(trial_server, png(100))
    assert (answer.headers["X-Unit"], answer.headers["X-Dtype"]) == ("grey", "uint8")
    assert "X-Position-Mm" not in answer.headers
    assert np.array_equal(np.frombuffer(answer.content, np.uint8).reshape(48, 48), GREY)


@pytest.mark.parametrize(("window", "low", "high"), [("lung", -1350, 150), ("soft", -160, 240)])
def test_a_png_in_a_window(window: str, low: int, high: int, trial_server: ServerProcess) -> None:
    answer = ask(trial_server, SCAN, query=f"?format=png&window={window}")
    assert answer.headers["content-type"] == "image/png"
    shown = np.asarray(Image.open(io.BytesIO(answer.content)))
    units = 8.0 * GREY - 1000
    expected = np.clip((units - low) / (high - low), 0, 1) * 255
    assert np.abs(shown - expected).max() <= 1.5
    picture = ask(trial_server, png(100), query="?format=png")
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(picture.content))), GREY)


def test_a_window_is_the_one_that_dicom_defines() -> None:
    values = np.array([[-32768, -1351, -1350, -600, 149, 150, 32767]], np.int16)
    shown = windowed(values, -600, 1500)
    assert shown.tolist() == [[0, 0, 0, 128, 255, 255, 255]]
    rebuilt = np.asarray(Image.open(io.BytesIO(grey_png(shown))))
    assert np.array_equal(rebuilt, shown)


def test_what_is_no_scan_gets_the_sentence_of_its_row(trial_server: ServerProcess) -> None:
    row = requests.post(
        f"{trial_server.url}/predict", files={"files": ("a", b"junk")}, timeout=30
    ).json()["predictions"][0]
    answer = ask(trial_server, b"junk")
    assert answer.status_code == 422
    assert answer.json() == {"error_code": row["error_code"], "message": row["error"]}


def test_wrong_requests(trial_server: ServerProcess, keyed_server: ServerProcess) -> None:
    for query in ("?format=gif", "?window=liver", "?threshold=0.5"):
        assert "format (raw, png)" in ask(trial_server, SCAN, query=query).json()["message"]
    assert "received 2 files" in ask(trial_server, SCAN, SCAN).json()["message"]
    assert ask(trial_server, bytes(33 * 2**20)).status_code == 413
    side = int(MAX_PIXELS**0.5) + 10
    large = io.BytesIO()
    Image.new("L", (side, side)).save(large, "PNG")
    refused = ask(trial_server, large.getvalue())
    assert refused.status_code == 413 and f"{side} x {side}" in refused.json()["message"]
    assert ask(keyed_server, SCAN).status_code == 401
    files = {"files": ("a.dcm", SCAN)}
    headers = {"X-API-Key": KEYS[0]}
    allowed = requests.post(f"{keyed_server.url}/pixels", files=files, headers=headers, timeout=30)
    assert allowed.status_code == 200
    assert trial_server.logged("POST /pixels status=422")
