"""POST /series: rows in, answers per series out."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests

from tests.serve.server_process import ServerProcess
from tests.serve.test_series import UID, asked, series_of
from tests.serve.trial_model import CLASSES


def answer(server: ServerProcess, rows: Any, **other: Any) -> requests.Response:
    return requests.post(f"{server.url}/series", json={"rows": rows} | other, timeout=30)


def test_rows_of_several_calls_get_the_answer_of_one(trial_server: ServerProcess) -> None:
    slices = series_of(40, step_mm=2.5) | {
        f"B{name}": data for name, data in series_of(6, uid="1.9").items()
    }
    whole = asked(trial_server, slices)
    items, rows = list(slices.items()), []
    for start in range(0, len(items), 16):
        rows += asked(trial_server, dict(items[start : start + 16]), "?series=true")["predictions"]
    found = answer(trial_server, rows).json()["series"]
    assert found == whole["series"]
    assert [entry["series"] for entry in found] == [UID, "1.9"]
    assert answer(trial_server, []).json() == {"series": []}


def test_rows_of_more_slices_than_one_request_may_hold_are_answered(
    trial_server: ServerProcess,
) -> None:
    p = {f"p_{name}": 0.0 for name in CLASSES}
    rows = [
        {"file": str(i), "series": UID, "position_mm": 0.5 * i, "skipped": False, **p}
        | {"p_normal": 0.2 if i == 700 else 0.9, "p_adenocarcinoma": 0.8 if i == 700 else 0.1}
        for i in range(1200)
    ]
    (entry,) = answer(trial_server, rows).json()["series"]
    assert (entry["slices"], entry["scored"], entry["key_slice"]) == (1200, 1200, "700")


WRONG: dict[str, Any] = {
    "no list": {"series": "a"},
    "no probabilities": [{"series": "a", "p_normal": 0.5}],
    "no objects": ["a"],
    "text for a number": [{"series": "a", "p_normal": "0.5"}],
    "no probability": [{"series": "a", "p_normal": 1.5}],
    "an endless position": [{"series": "a", "p_normal": 0.5, "position_mm": 1e300, "p_x": 0}],
    "a long integer": [{"series": "a", "position_mm": 10**400}],
    "true for a number": [{"series": "a", "p_normal": True}],
    "a number for a series": [{"series": 7, "p_normal": 0.5}],
    "a list for a flag": [{"series": "a", "skipped": []}],
}


@pytest.mark.parametrize("name", WRONG)
def test_rows_that_no_model_made_are_refused(name: str, trial_server: ServerProcess) -> None:
    refused = answer(trial_server, WRONG[name])
    assert refused.status_code == 400, refused.text
    assert refused.json()["message"].startswith("Expected ")


def test_other_wrong_requests(trial_server: ServerProcess, tight_server: ServerProcess) -> None:
    assert answer(trial_server, [], params={}).status_code == 400
    url = f"{trial_server.url}/series"
    for body, kind in (
        (b"{", "application/json"),
        (b"[]", "application/json"),
        (b"{}", "text/csv"),
    ):
        refused = requests.post(url, body, headers={"Content-Type": kind}, timeout=30)
        assert refused.status_code == (415 if kind == "text/csv" else 400)
        assert '{"rows"' in refused.json()["message"]
    nan = b'{"rows": [{"series": "a", "p_normal": NaN}]}'
    headers = {"Content-Type": "application/json"}
    assert requests.post(url, nan, headers=headers, timeout=30).status_code == 400
    many = [{"series": "a", "p_normal": 0.5}] * 81
    refused = answer(tight_server, many)
    assert refused.status_code == 413
    assert "at most 80 scans" in refused.json()["message"]
    deep = json.dumps({"rows": [{"series": [[]]}] * 4000}).encode()
    assert requests.post(url, deep, headers=headers, timeout=30).status_code in (400, 413)
