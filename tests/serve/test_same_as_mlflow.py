"""Good requests get, byte for byte, what `mlflow models serve` answers."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
import requests

from tests.serve.conftest import png
from tests.serve.server_process import ServerProcess, running_mlflow
from tests.serve.test_series import series_of

SLICES = [base64.b64encode(data).decode() for data in (*series_of(3).values(), png(90))]
NAMES = ["a", "a", None, "b"]
WITH_SERIES = pd.DataFrame({"image": SLICES, "series": NAMES})
NAMED = {"image": SLICES[:2], "series": NAMES[:2]}
OWN = {"series": True}  # each file's own
SERIES_BODIES = {
    "dataframe_split": {"dataframe_split": WITH_SERIES.to_dict("split")},
    "dataframe_records": {"dataframe_records": WITH_SERIES.to_dict("records")},
    "inputs": {"inputs": NAMED},
    "instances": {"instances": pd.DataFrame(NAMED).to_dict("records")},
    "column and params": {"dataframe_split": WITH_SERIES.to_dict("split"), "params": OWN},
    "params of split": {"dataframe_split": {"columns": ["image"], "data": [[s] for s in SLICES]},
                        "params": OWN},
    "params of records": {"dataframe_records": [{"image": s} for s in SLICES], "params": OWN},
    "params of inputs": {"inputs": {"image": SLICES}, "params": OWN},
}  # fmt: skip
SCANS = [base64.b64encode(data).decode() for data in (png(40), png(200), b"not an image")]
JSON, PARQUET = "application/json", "application/vnd.apache.parquet"
TABLE = pd.DataFrame({"image": SCANS})
JSON_BODIES = {
    "dataframe_split": {"dataframe_split": TABLE.to_dict("split")},
    "dataframe_records": {"dataframe_records": TABLE.to_dict("records")},
    "inputs": {"inputs": {"image": SCANS}},
    "instances": {"instances": [{"image": scan} for scan in SCANS]},
    "params": {"dataframe_records": TABLE.to_dict("records"), "params": {"explain": True}},
    "no rows": {"dataframe_split": {"columns": ["image"], "data": []}},
}


@pytest.fixture(scope="module")
def mlflow_server(
    trial_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    with running_mlflow(trial_model, tmp_path_factory.mktemp("mlflow")) as server:
        yield server


def answers(
    servers: tuple[ServerProcess, ...], body: bytes, content_type: str
) -> list[requests.Response]:
    headers = {"Content-Type": content_type}
    return [
        requests.post(f"{server.url}/invocations", body, headers=headers, timeout=60)
        for server in servers
    ]


def assert_same(ours: requests.Response, theirs: requests.Response) -> None:
    assert theirs.status_code == 200
    assert ours.status_code == 200
    assert ours.content == theirs.content
    assert ours.headers.get("content-type") == theirs.headers.get("content-type")


@pytest.mark.parametrize("name", JSON_BODIES)
def test_json(name: str, trial_server: ServerProcess, mlflow_server: ServerProcess) -> None:
    body = json.dumps(JSON_BODIES[name]).encode()
    ours, theirs = answers((trial_server, mlflow_server), body, JSON)
    assert_same(ours, theirs)
    rows = ours.json()["predictions"]
    assert len(rows) == (0 if name == "no rows" else 3)
    assert all((row["label"] is None) != (row["error"] is None) for row in rows)


def test_csv(trial_server: ServerProcess, mlflow_server: ServerProcess) -> None:
    body = TABLE.to_csv(index=False).encode()
    assert_same(*answers((trial_server, mlflow_server), body, "text/csv"))
    assert_same(*answers((trial_server, mlflow_server), body, "text/csv; charset=utf-8"))


def test_parquet(trial_server: ServerProcess, mlflow_server: ServerProcess) -> None:
    file = io.BytesIO()
    TABLE.to_parquet(file)
    assert_same(*answers((trial_server, mlflow_server), file.getvalue(), PARQUET))


@pytest.fixture(scope="module")
def pyfunc(trial_model: Path) -> Any:
    return mlflow.pyfunc.load_model(str(trial_model))


@pytest.mark.parametrize("name", SERIES_BODIES)
def test_series_as_json(
    name: str, trial_server: ServerProcess, mlflow_server: ServerProcess, pyfunc: Any
) -> None:
    body = SERIES_BODIES[name]
    ours, theirs = answers((trial_server, mlflow_server), json.dumps(body).encode(), JSON)
    assert_same(ours, theirs)
    frame = WITH_SERIES[["image"]] if name.startswith("params") else WITH_SERIES
    frame = frame[:2] if name in ("inputs", "instances") else frame
    expected = pyfunc.predict(frame, params=body.get("params")).to_dict("records")
    assert ours.json()["predictions"] == expected


def test_series_as_csv_and_parquet(
    trial_server: ServerProcess, mlflow_server: ServerProcess, pyfunc: Any
) -> None:
    expected = pyfunc.predict(WITH_SERIES).to_dict("records")
    assert [row["series"] for row in expected] == NAMES
    file = io.BytesIO()
    WITH_SERIES.to_parquet(file)
    csv = WITH_SERIES.to_csv(index=False).encode()
    for body, kind in ((csv, "text/csv"), (file.getvalue(), PARQUET)):
        ours, theirs = answers((trial_server, mlflow_server), body, kind)
        assert_same(ours, theirs)
        assert ours.json()["predictions"] == expected


@pytest.mark.parametrize("path", ["/ping", "/health", "/version"])
def test_health(path: str, trial_server: ServerProcess, mlflow_server: ServerProcess) -> None:
    ours = requests.get(trial_server.url + path, timeout=10)
    theirs = requests.get(mlflow_server.url + path, timeout=10)
    assert (ours.status_code, ours.content) == (theirs.status_code, theirs.content)
    # MLflow calls it JSON, which neither an empty line nor a version is.
    assert ours.headers["content-type"].startswith("text/plain")
