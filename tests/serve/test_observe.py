"""The log and the metrics: what they count and what they never hold."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import requests

from serve.http.errors import RefusalError
from serve.http.request_limits import RequestLimits
from serve.scoring import ServedModel
from tests.serve.conftest import png
from tests.serve.server_process import ServerProcess, running_serve


def value(metrics: str, sample: str, /, **labels: str) -> float:
    """Return a sample's value, or 0 if it is not there yet."""
    for line in metrics.splitlines():
        if line.startswith(f"{sample}{{") and all(f'{k}="{v}"' in line for k, v in labels.items()):
            return float(line.rsplit(" ", 1)[1])
        if not labels and line.startswith(f"{sample} "):
            return float(line.split(" ")[1])
    return 0.0


def read(server: ServerProcess) -> str:
    answer = requests.get(f"{server.url}/metrics", timeout=10)
    assert answer.headers["content-type"].startswith("text/plain")
    return answer.text


def test_metrics_count_requests_rows_and_errors(trial_server: ServerProcess) -> None:
    before = read(trial_server)
    url = f"{trial_server.url}/predict"
    files = [("files", ("a.png", png(9))), ("files", ("b", b"x")), ("files", ("c.png", png(9)))]
    assert requests.post(url, files=files, timeout=30).status_code == 200
    assert requests.post(url, timeout=30).status_code == 415
    trial_server.logged("POST /predict status=415")
    after = read(trial_server)

    def grown(name: str, **labels: str) -> float:
        return value(after, name, **labels) - value(before, name, **labels)

    assert grown("chest_ct_requests_total", route="/predict", status="200") == 1
    assert grown("chest_ct_requests_total", route="/predict", status="415") == 1
    assert grown("chest_ct_request_seconds_count", route="/predict") == 2
    assert grown("chest_ct_request_seconds_bucket", route="/predict", le="+Inf") == 2
    assert grown("chest_ct_rows_total", outcome="scored") == 2
    assert grown("chest_ct_rows_total", outcome="error") == 1
    assert grown("chest_ct_errors_total", kind="bad_request") == 1
    assert value(after, "chest_ct_requests_in_flight") == 1  # the one that reads them
    assert value(after, "chest_ct_model_info", precision="int8") == 1


def test_made_up_paths_and_methods_make_no_new_series(trial_server: ServerProcess) -> None:
    for i in range(5):
        requests.request(f"MADEUP{i}", f"{trial_server.url}/made-up-{i}", timeout=10)
    metrics = read(trial_server)
    assert "made-up" not in metrics.lower()
    assert "MADEUP" not in metrics
    assert value(metrics, "chest_ct_requests_total", route="other", method="other") >= 5


def test_one_line_a_request_without_anything_sent(trial_server: ServerProcess) -> None:
    scan = png(77, size=81)
    files = {"files": ("Jane_Doe_1970.png", scan)}
    url = f"{trial_server.url}/predict?threshold=0.25"
    request = requests.Request("POST", url, files=files, headers={"User-Agent": "spy"}).prepare()
    assert requests.Session().send(request, timeout=30).status_code == 200
    line = trial_server.logged(f"bytes={request.headers['Content-Length']} ")
    assert re.search(
        r"INFO POST /predict status=200 ms=[\d.]+ bytes=\d+ rows=1 unreadable=0$", line
    )
    for text in ("Jane", "0.25", "spy", "127.0.0.1:"):
        assert text not in trial_server.log().replace(trial_server.url, "")


def test_a_request_has_an_id_in_its_answer_and_in_the_log(trial_server: ServerProcess) -> None:
    url = f"{trial_server.url}/model"
    own = requests.get(url, headers={"X-Request-ID": "ward-7.42_a"}, timeout=10)
    assert own.headers["X-Request-ID"] == "ward-7.42_a"
    assert "GET /model status=200" in trial_server.logged(" ward-7.42_a INFO ")
    made = [requests.get(url, timeout=10).headers["X-Request-ID"] for _ in range(2)]
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in made)
    assert made[0] != made[1]
    for odd in ("a b", "x" * 65, "-", "a;b", "<script>"):
        answer = requests.get(url, headers={"X-Request-ID": odd}, timeout=10)
        assert re.fullmatch("[0-9a-f]{32}", answer.headers["X-Request-ID"])
        assert f" {odd} " not in trial_server.log()
    refused = requests.post(f"{trial_server.url}/predict", timeout=10)
    assert trial_server.logged(refused.headers["X-Request-ID"]).endswith("error=bad_request")


def test_a_log_of_json_objects(trial_model: Path, tmp_path: Path) -> None:
    with running_serve(trial_model, tmp_path, "--log-format", "json") as server:
        files = [("files", ("Jane_Doe.png", png(9))), ("files", ("b", b"x"))]
        own = {"X-Request-ID": "ward-7"}
        requests.post(f"{server.url}/predict?explain=true", files=files, headers=own, timeout=30)
        requests.post(f"{server.url}/predict", timeout=30)
        line = json.loads(server.logged('"ward-7"'))
        assert set(line) == {
            "time", "level", "request_id", "method", "route", "status", "latency_ms", "bytes",
            "rows", "failed",
        }  # fmt: skip
        assert (line["level"], line["method"], line["route"]) == ("INFO", "POST", "/predict")
        assert (line["status"], line["rows"], line["failed"]) == (200, 2, 1)
        assert line["latency_ms"] > 0
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", line["time"])
        assert json.loads(server.logged('"error"'))["error"] == "bad_request"
        for text in server.log().splitlines():
            assert {"time", "level"} <= set(json.loads(text))
        assert "Serving" in json.loads(server.log().splitlines()[0])["message"]
        assert "Jane" not in server.log()


def test_readiness_is_whether_the_model_answers(
    trial_server: ServerProcess, keyed_server: ServerProcess
) -> None:
    for server in (trial_server, keyed_server):
        answer = requests.get(f"{server.url}/readyz", timeout=30)
        assert (answer.status_code, answer.text) == (200, "ready\n")
    metrics = read(trial_server)
    assert value(metrics, "chest_ct_requests_total", route="/readyz", status="200") >= 1


class Moody:
    """A model that fails as long as it is told to."""

    def __init__(self) -> None:
        self.fails = True
        self.calls = 0
        self.metadata = SimpleNamespace(get_params_schema=lambda: None, get_input_schema=list)

    def predict(self, data: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        """Answer, or fail."""
        self.calls += 1
        if self.fails:
            raise RuntimeError("no memory")
        return pd.DataFrame({"label": ["normal"] * len(data)})


def test_a_model_that_fails_is_not_ready_until_it_answers_again() -> None:
    moody = Moody()
    served = ServedModel(moody, RequestLimits())
    for _ in range(2):
        with pytest.raises(RefusalError, match="not_ready"):
            served.check_ready()
    moody.fails = False
    for _ in range(3):
        served.check_ready()
    assert moody.calls == 3  # asked once when well
    moody.fails = True
    with pytest.raises(RefusalError, match="model_failed"):
        served.predict(pd.DataFrame({"image": ["x"]}))
    with pytest.raises(RefusalError, match="not_ready"):
        served.check_ready()
