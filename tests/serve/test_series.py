"""POST /predict with whole series: one answer for each, whatever came and in which order."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import requests

from serve.predict import FRAME_BYTES
from serve.scoring import BATCH_ROWS, BATCHES_AT_ONCE
from tests.serve.conftest import KEYS, png
from tests.serve.gate import Gate
from tests.serve.server_process import ServerProcess, running_serve
from tests.serve.test_observe import value
from tests.serve.test_zips import post, zipped
from tests.serve.trial_model import CLASSES, dicom

UID = "1.2.840.113619.2.55"
Slices = dict[str, bytes]


def series_of(slices: int, uid: str = UID, step_mm: float = 5.0) -> Slices:
    """Return the slices of a series, brightest (least suspicious) at its ends."""
    middle = slices // 2
    return {
        f"IM{i:04}.dcm": dicom(uid, step_mm * i, png(20 + abs(i - middle) * 3 % 230))
        for i in range(slices)
    }


def asked(server: ServerProcess, slices: Slices, query: str = "") -> dict[str, Any]:
    answer = post(server, *slices.items(), query=query)
    assert answer.status_code == 200, answer.text[:500]
    body: dict[str, Any] = answer.json()
    return body


def test_an_entry_holds_counts_key_slice_and_curve(trial_server: ServerProcess) -> None:
    slices = series_of(7) | {"IM0003.dcm": dicom(UID, 15.0, b"broken"), "other.png": png(30)}
    body = asked(trial_server, slices)
    (entry,) = body["series"]
    rows = body["predictions"]
    assert [row["file"] for row in rows] == list(slices)
    counts = {name: entry[name] for name in ("slices", "scored", "skipped", "failed")}
    assert counts == {"slices": 7, "scored": 6, "skipped": 0, "failed": 1}
    assert [point["file"] for point in entry["curve"]] == [
        f"IM{i:04}.dcm" for i in (0, 1, 2, 4, 5, 6)
    ]
    for point in entry["curve"]:
        row = rows[point["row"]]
        assert row["file"] == point["file"]
        assert point["position_mm"] == row["position_mm"]
        assert point["probability"] == pytest.approx(1 - row["p_normal"])
    best = max(entry["curve"], key=lambda point: point["probability"])
    assert (entry["key_slice"], entry["key_row"]) == (best["file"], best["row"])
    assert entry["probability"] == best["probability"]
    assert [row["file"] for row in rows if row["key_slice"]] == [best["file"]]
    assert {row["series_label"] for row in rows[:7]} == {entry["label"]}
    assert rows[7]["series"] is None and rows[7]["series_label"] is None
    assert rows[7]["key_slice"] is None
    assert rows[3]["error_code"] == "unknown_format"
    assert not any(name.startswith("series") and name != "series" for name in entry)


def test_the_answer_depends_neither_on_order_nor_on_how_it_was_sent(
    trial_server: ServerProcess,
) -> None:
    slices = series_of(BATCH_ROWS * 8 + 9, step_mm=3.0)
    plain = asked(trial_server, slices)
    shuffled = list(slices.items())
    random.Random(3).shuffle(shuffled)
    mixed = asked(trial_server, dict(shuffled))
    packed = post(trial_server, ("z.zip", zipped(slices))).json()

    def answer(body: dict[str, Any]) -> dict[str, Any]:
        (entry,) = body["series"]
        named = ("curve", "key_slice", "key_row")
        curve = [(p["position_mm"], p["probability"]) for p in entry["curve"]]
        return {k: v for k, v in entry.items() if k not in named} | {"curve": curve}

    assert answer(plain) == answer(mixed) == answer(packed)
    assert plain["series"][0]["skipped"] > 40
    by_name = {row["file"]: row for row in plain["predictions"]}
    for row in mixed["predictions"]:
        assert row == by_name[row["file"]]
    skipped = [row for row in plain["predictions"] if row["skipped"]]
    assert len(skipped) == plain["series"][0]["skipped"]
    assert all(row["label"] is None and row["error"] is None for row in skipped)


def test_large_thin_slices_are_scored_as_in_one_call(trial_server: ServerProcess) -> None:
    size = FRAME_BYTES // 20
    slices = {f"{i}": dicom(UID, 1.0 * i, png(9 + i), size=size) for i in range(60)}
    rows = asked(trial_server, slices)["predictions"]
    assert [row["file"] for row in rows if not row["skipped"]] == [str(5 * i) for i in range(12)]


def test_series_are_answered_when_they_should_be(trial_server: ServerProcess) -> None:
    one = {"a.dcm": dicom(UID, 1.0, png(9))}
    two = series_of(2)
    strangers = {"a.dcm": dicom("1.1", 1.0, png(9)), "b.dcm": dicom("1.2", 1.0, png(9))}
    assert "series" not in asked(trial_server, one)
    assert "series" in asked(trial_server, two)
    assert "series" not in asked(trial_server, strangers)
    assert len(asked(trial_server, strangers, "?series=true")["series"]) == 2
    assert len(asked(trial_server, one, "?series=true")["series"]) == 1
    plain = asked(trial_server, two, "?series=false")
    assert "series" not in plain
    assert "skipped" not in plain["predictions"][0]
    assert asked(trial_server, {"a.png": png(9)}, "?series=true")["series"] == []
    field = requests.post(
        f"{trial_server.url}/predict",
        files=[("files", file) for file in two.items()],
        data={"series": "false"},
        timeout=60,
    )
    assert "series" not in field.json()


@pytest.mark.parametrize("query", ["?series=perhaps", "?series=true&series=true", "?series="])
def test_a_wrong_series_parameter_is_refused(query: str, trial_server: ServerProcess) -> None:
    answer = post(trial_server, ("a.png", png(9)), query=query)
    assert answer.status_code == 400
    assert "the parameter series" in answer.json()["message"]


def test_two_series_in_one_folder_get_two_answers(trial_server: ServerProcess) -> None:
    first = series_of(4)
    second = {f"B{name}": data for name, data in series_of(3, uid="1.9").items()}
    body = asked(trial_server, first | second)
    assert [(entry["series"], entry["slices"]) for entry in body["series"]] == [
        (UID, 4),
        ("1.9", 3),
    ]
    assert body["series"][1]["key_slice"].startswith("BIM")


def test_a_series_of_which_every_slice_fails_says_so(trial_server: ServerProcess) -> None:
    slices = {f"{i}.dcm": dicom(UID, 5.0 * i, b"broken") for i in range(3)}
    body = asked(trial_server, slices)
    (entry,) = body["series"]
    assert entry["error"].startswith("None of the 3 slices")
    assert (entry["label"], entry["key_slice"], entry["key_row"]) == (None, None, None)
    assert entry["curve"] == []
    assert len(body["predictions"]) == 3
    assert all(row["error"] for row in body["predictions"])


def test_limits_of_series(tight_server: ServerProcess, trial_server: ServerProcess) -> None:
    assert len(asked(tight_server, series_of(8))["predictions"]) == 8
    refused = post(tight_server, *series_of(9).items())
    assert refused.status_code == 413
    assert "at most 8 scans" in refused.json()["message"]
    refused = post(tight_server, *series_of(8).items(), query="?series=false")
    assert "at most 5 scans" in refused.json()["message"]
    many = {f"{i}.dcm": dicom(UID, i, b"") for i in range(3000)}
    refused = post(trial_server, *many.items())
    assert refused.status_code == 413
    assert "at most 1000 scans" in refused.json()["message"]
    refused = post(trial_server, ("z.zip", zipped(many)))
    assert refused.status_code == 413
    assert "at most 1000 files in zips" in refused.json()["message"]


def test_scoring_a_series_stops_when_the_client_hangs_up(
    trial_model: Path, tmp_path: Path, gate: Gate
) -> None:
    slices = [
        ("files", (f"{i}.dcm", dicom(UID, 5.0 * i, gate.scan))) for i in range(BATCH_ROWS * 5)
    ]
    with running_serve(trial_model, tmp_path, "--max-in-flight", "1") as server:
        with pytest.raises(requests.Timeout):
            requests.post(f"{server.url}/predict", files=slices, timeout=1.5)
        gate.open()
        while post(server, ("a.png", png(9))).status_code == 503:
            time.sleep(0.02)
        assert server.logged("error=client_gone")
        assert 1 <= gate.begun() <= BATCH_ROWS * BATCHES_AT_ONCE


def test_a_large_series_is_held_once_and_a_larger_one_is_a_matter_of_options(
    trial_model: Path, tmp_path: Path
) -> None:
    slices = {f"{i}.dcm": dicom(UID, 5.0 * i, png(9), size=500_000) for i in range(200)}
    with running_serve(trial_model, tmp_path, "--max-slices", "3000") as server:
        asked(server, series_of(40))
        process = Path(f"/proc/{server.process.pid}/status")
        before, idle = resident_mb(process, "VmHWM"), resident_mb(process, "VmRSS")
        body = asked(server, slices)
        assert len(body["series"][0]["curve"]) == 200
        deadline = time.monotonic() + 20
        while resident_mb(process, "VmRSS") - idle > 40:
            assert time.monotonic() < deadline, "the memory of the series is not given back"
            time.sleep(0.05)
        # 100 MB once, and the slices of three calls of the model.
        assert resident_mb(process, "VmHWM") - before < 160
        thin = series_of(3000, step_mm=0.5)
        for sent in (thin.items(), [("z.zip", zipped(thin))]):
            body = post(server, *sent).json()
            (entry,) = body["series"]
            assert len(body["predictions"]) == entry["slices"] == 3000
            assert (entry["scored"], entry["failed"]) == (300, 0)


def resident_mb(status: Path, field: str) -> float:
    line = next(x for x in status.read_text().splitlines() if x.startswith(field))
    return int(line.split()[1]) / 1000


def test_series_need_a_key_where_scans_do(keyed_server: ServerProcess) -> None:
    files = [("files", file) for file in series_of(2).items()]
    url = f"{keyed_server.url}/predict"
    assert requests.post(url, files=files, timeout=60).status_code == 401
    allowed = requests.post(url, files=files, headers={"X-API-Key": KEYS[0]}, timeout=60)
    assert len(allowed.json()["series"]) == 1


def test_series_are_counted_and_skipped_slices_are_no_answers(trial_server: ServerProcess) -> None:
    def metrics() -> str:
        return requests.get(f"{trial_server.url}/metrics", timeout=10).text

    before = metrics()
    asked(trial_server, series_of(10, step_mm=2.5))
    asked(trial_server, {"a.dcm": dicom(UID, 1.0, b"x"), "b.dcm": dicom(UID, 9.0, b"x")})
    assert trial_server.logged("skipped=5 series=1")
    after = metrics()

    def grown(name: str, **labels: str) -> float:
        return value(after, name, **labels) - value(before, name, **labels)

    assert grown("chest_ct_series_total", answer="answered") == 1
    assert grown("chest_ct_series_total", answer="failed") == 1
    assert grown("chest_ct_answers_total", answer="skipped") == 5
    assert grown("chest_ct_rows_total", outcome="scored") == 5
    assert grown("chest_ct_rows_total", outcome="error") == 2
    assert UID not in trial_server.log()


def test_invocations_answer_series_by_column_and_by_parameter(trial_server: ServerProcess) -> None:
    import base64

    texts = [base64.b64encode(data).decode() for data in series_of(3).values()]
    records = [{"image": text, "series": "s"} for text in texts]
    url = f"{trial_server.url}/invocations"
    table = pd.DataFrame(records)
    forms = [
        {"dataframe_records": records},
        {"instances": records},
        {"inputs": {"image": texts, "series": ["s"] * 3}},
        {"dataframe_split": table.to_dict("split")},
    ]
    answers = [requests.post(url, json=form, timeout=60).json()["predictions"] for form in forms]
    headers = {"Content-Type": "text/csv"}
    csv = requests.post(url, table.to_csv(index=False), headers=headers, timeout=60)
    answers.append(csv.json()["predictions"])
    assert all(rows == answers[0] for rows in answers)
    assert [row["series"] for row in answers[0]] == ["s"] * 3
    own = {"inputs": texts, "params": {"series": True}}
    rows = requests.post(url, json=own, timeout=60).json()["predictions"]
    assert [row["series"] for row in rows] == [UID] * 3
    assert {row["series_label"] for row in rows} == {"adenocarcinoma"}
    assert set(CLASSES) >= {row["label"] for row in rows}
