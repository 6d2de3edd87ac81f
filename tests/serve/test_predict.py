"""POST /predict: files in, rows out, named by file."""

from __future__ import annotations

import base64
import io
import json

import pytest
import requests
from PIL import Image

from tests.serve.conftest import png
from tests.serve.server_process import ServerProcess

Files = list[tuple[str, tuple[str, bytes]]]


def post(server: ServerProcess, *files: tuple[str, bytes], query: str = "") -> requests.Response:
    parts: Files = [("files", file) for file in files]
    return requests.post(f"{server.url}/predict{query}", files=parts, timeout=60)


def test_rows_are_those_of_invocations(trial_server: ServerProcess) -> None:
    scans = {"a.png": png(30), "b.png": b"broken", "c.png": png(250)}
    answer = post(trial_server, *scans.items())
    rows = answer.json()["predictions"]
    assert [row.pop("file") for row in rows] == list(scans)
    records = [{"image": base64.b64encode(data).decode()} for data in scans.values()]
    body = {"dataframe_records": records}
    plain = requests.post(f"{trial_server.url}/invocations", json=body, timeout=60)
    assert rows == plain.json()["predictions"]
    assert rows[1]["label"] is None
    assert rows[1]["error"]
    assert [row["error_code"] for row in rows] == [None, "unknown_format", None]
    assert sum(p for name, p in rows[0].items() if name.startswith("p_")) == pytest.approx(1)


def test_answer_says_what_it_is(trial_server: ServerProcess) -> None:
    answer = post(trial_server, ("a.png", png(30))).json()
    assert answer["notice"] == "Research software, not a medical device."
    assert set(answer["model"]) == {"name", "version", "stage"}


def test_same_name_twice_and_names_of_any_kind_keep_their_order(
    trial_server: ServerProcess,
) -> None:
    names = ["a.png", "a.png", "Zoë Ångström 胸部.png", "../../etc/passwd", "<img src=x>"]
    answer = post(trial_server, *((name, png(10 * i)) for i, name in enumerate(names)))
    received = [row["file"] for row in answer.json()["predictions"]]
    assert received == names


def test_parameters_reach_the_model(trial_server: ServerProcess) -> None:
    plain = post(trial_server, ("a.png", png(30))).json()["predictions"][0]
    explained = post(trial_server, ("a.png", png(30)), query="?explain=true&threshold=0.4")
    row = explained.json()["predictions"][0]
    assert "heatmap" not in plain
    assert base64.b64decode(row["heatmap"]).startswith(b"\x89PNG")


@pytest.mark.parametrize("query", ["?nonsense=1", "?explain=perhaps", "?threshold=nan"])
def test_wrong_parameters_are_refused(query: str, trial_server: ServerProcess) -> None:
    answer = post(trial_server, ("a.png", png(30)), query=query)
    assert answer.status_code == 400
    assert answer.json()["message"].startswith("Expected")


def test_no_nan_in_json(trial_server: ServerProcess) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(name)

    json.loads(post(trial_server, ("a", b"")).content, parse_constant=refuse)


def test_an_empty_file_gets_a_row(trial_server: ServerProcess) -> None:
    (row,) = post(trial_server, ("empty.png", b"")).json()["predictions"]
    assert row["file"] == "empty.png"
    assert row["error"]


def test_without_a_file(trial_server: ServerProcess) -> None:
    url = f"{trial_server.url}/predict"
    empty_form = {"files": ("", b"", "application/octet-stream")}
    refused = [
        requests.post(url, files={"note": (None, "text")}, timeout=60),
        requests.post(url, files=empty_form, timeout=60),
        requests.post(url, data={"a": "b"}, timeout=60),
        requests.post(url, data=b"--x", headers={"Content-Type": "multipart/form-data"}, timeout=9),
        requests.post(
            url, b"junk", headers={"Content-Type": "multipart/form-data; boundary=x"}, timeout=9
        ),
    ]
    assert [answer.status_code for answer in refused] == [400, 400, 415, 400, 400]
    assert all(answer.json()["message"].startswith("Expected") for answer in refused)


def test_form_without_javascript_gets_a_page(trial_server: ServerProcess) -> None:
    files = [("files", ("<script>alert(1)</script>.png", png(30))), ("files", ("b.png", b"x"))]
    answer = requests.post(
        f"{trial_server.url}/predict",
        files=files,
        headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"},
        timeout=60,
    )
    assert answer.headers["content-type"].startswith("text/html")
    assert "<script" not in answer.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;.png" in answer.text
    assert "Research software, not a medical device." in answer.text
    assert "synthetic phantom data" in answer.text
    assert answer.text.count("<td>") == 2 * 6  # answer, four classes and why, for each scan
    assert "these bytes are not one" in answer.text


def test_the_plain_page_puts_doubt_before_a_label(trial_server: ServerProcess) -> None:
    white = io.BytesIO()
    Image.new("L", (16, 16), 250).save(white, "PNG")
    scans = {"low": b"below", "unsure": b"undecided", "wall": white.getvalue()}
    files = [("files", scan) for scan in scans.items()]
    headers = {"Accept": "text/html"}
    answer = requests.post(f"{trial_server.url}/predict", files=files, headers=headers, timeout=60)
    low, unsure, wall = answer.text.split("<tr class=")[1:]
    assert "<strong>normal</strong>" in low
    assert "Probability of disease 68 %, below the model&#39;s threshold of 70 %." in low
    assert "<strong>Undecided; nearest label: " in unsure
    assert "<strong>Out of domain; nearest label: " in wall


def test_form_fields_are_parameters(trial_server: ServerProcess) -> None:
    url = f"{trial_server.url}/predict"
    files = {"files": ("a.png", png(30))}
    explained = requests.post(url, files=files, data={"explain": "true"}, timeout=60)
    assert "heatmap" in explained.json()["predictions"][0]
    for wrong in ({"treshold": "0.9"}, {"explain": "perhaps"}, {"threshold": "9" * 5000}):
        refused = requests.post(url, files=files, data=wrong, timeout=60)
        assert refused.status_code == 400
        assert "threshold (double)" in refused.text or "explain (boolean)" in refused.text
    twice = requests.post(f"{url}?threshold=0.3", files=files, data={"threshold": "1"}, timeout=60)
    assert twice.status_code == 400
    assert "once" in twice.json()["message"]
