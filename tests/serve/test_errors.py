"""What a client is told, and what it is never told."""

from __future__ import annotations

import base64
import json

import pytest
import requests

from serve.http.errors import tellable
from tests.serve.conftest import png
from tests.serve.server_process import ServerProcess

SCAN = base64.b64encode(png(99)).decode()
MODEL_FAILS = base64.b64encode(b"raise now").decode()
JSON = "application/json"
BAD_REQUESTS = {
    "no JSON": (b"{", JSON, 400, "not JSON at line 1"),
    "no text": (b'{"\xff": 1}', JSON, 400, "not UTF-8"),
    "a list": (b"[1]", JSON, 400, "a JSON list"),
    "nested": (b"[" * 100_000, JSON, 400, "nested too deeply"),
    "no known field": (b'{"picture": 1}', JSON, 400, "received 'picture'"),
    "data as a field": (f'{{"{SCAN}": 1}}'.encode(), JSON, 400, "1 unnamed"),
    "two fields": (b'{"inputs": [], "instances": []}', JSON, 400, "exactly one"),
    "other column": (b'{"dataframe_records": [{"scan": "x"}]}', JSON, 400, "received 'scan'"),
    "odd values": (b'{"instances": [1, [2]]}', JSON, 400, "do not fit"),
    "odd split": (b'{"dataframe_split": 7}', JSON, 400, "do not fit"),
    "param type": (
        json.dumps({"instances": [SCAN], "params": {"threshold": "much"}}).encode(),
        JSON,
        400,
        "threshold (double)",
    ),
    "CSV column": (b"scan\nabc\n", "text/csv", 400, "columns 'scan'"),
    "CSV bytes": (b"\xff\xff", "text/csv", 400, "could not be read"),
    "no Parquet": (b"PAR?", "application/vnd.apache.parquet", 400, "Parquet"),
    "content type": (b"x", "application/x-www-form-urlencoded", 415, "content types"),
    "charset": (b"{}", "application/json; charset=latin-1", 415, "charset=utf-8"),
}
NEVER_TOLD = ("Traceback", "site-packages", ".py", "/srv", "patient.dcm", SCAN[:40], "mlflow.")


def assert_clear(answer: requests.Response) -> None:
    error = answer.json()
    assert set(error) == {"error_code", "message"}
    assert "\n" not in error["message"]
    assert not [text for text in NEVER_TOLD if text in answer.text]


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_bad_invocations(name: str, trial_server: ServerProcess) -> None:
    body, content_type, status, told = BAD_REQUESTS[name]
    headers = {"Content-Type": content_type}
    answer = requests.post(f"{trial_server.url}/invocations", body, headers=headers, timeout=60)
    assert answer.status_code == status
    assert_clear(answer)
    assert told in answer.json()["message"]


def test_invocations_without_content_type(trial_server: ServerProcess) -> None:
    request = requests.Request("POST", f"{trial_server.url}/invocations").prepare()
    answer = requests.Session().send(request, timeout=60)
    assert answer.status_code == 415
    assert_clear(answer)


def test_a_failing_model_is_the_servers_fault(trial_server: ServerProcess) -> None:
    url = trial_server.url
    body = {"instances": [SCAN, MODEL_FAILS]}
    answers = [
        requests.post(f"{url}/invocations", json=body, timeout=60),
        requests.post(f"{url}/predict", files={"files": ("a", b"raise now")}, timeout=60),
    ]
    for answer in answers:
        assert answer.status_code == 500
        assert_clear(answer)
        assert "The model failed" in answer.json()["message"]
    assert trial_server.logged("raised=RuntimeError at trial.py:")
    assert "patient.dcm" not in trial_server.log()


def test_a_models_own_sentence_is_passed_on(trial_server: ServerProcess) -> None:
    url = f"{trial_server.url}/predict"
    answer = requests.post(url, files={"files": ("a", b"refuse")}, timeout=60)
    assert answer.status_code == 400
    assert answer.json()["message"] == "Expected a threshold from 0 to 1; received 7."


def test_what_is_not_a_sentence_for_a_client_is_kept_back() -> None:
    assert tellable("Expected a threshold from 0 to 1; received 7.")
    assert tellable("operands could not be broadcast together") is None
    assert tellable("Expected to open /srv/model.xml") is None
    assert tellable("Expected two\nlines") is None
    assert tellable(f"Expected base64; received {SCAN}") is None


@pytest.mark.parametrize("path", ["/nothing/here", "/predict/patient-7", "/redoc", "/static/x.js"])
def test_unknown_paths(path: str, trial_server: ServerProcess) -> None:
    answer = requests.get(trial_server.url + path, timeout=60)
    assert answer.status_code == 404
    assert_clear(answer)
    assert "patient-7" not in trial_server.log()


def test_a_browser_gets_a_page_instead_of_json(trial_server: ServerProcess) -> None:
    headers = {"Accept": "text/html"}
    answer = requests.post(f"{trial_server.url}/predict", headers=headers, timeout=60)
    assert answer.status_code == 415
    assert answer.headers["content-type"].startswith("text/html")
    assert 'role="alert"' in answer.text
