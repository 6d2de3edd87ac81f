"""The job's log as JSON objects, for programs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from batch.progress import RunState, progress_facts
from tests.batch.conftest import Result, Run, png


def records(result: Result) -> list[dict[str, Any]]:
    """Return the log's lines, each of which is an object with time, level and message."""
    found: list[dict[str, Any]] = [json.loads(line) for line in result.err.splitlines()]
    for record in found:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", record["time"])
        assert {"level", "message"} <= set(record)
    return found


def test_every_line_is_an_object_and_the_end_says_what_came_out(
    tmp_path: Path, run_cli: Run, stand_in_model: Path
) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    for n in range(3):
        (scans / f"Jane_Doe_{n}.png").write_bytes(png(n))
    (scans / "Jane_Doe_bad.png").write_bytes(b"bad")
    result = run_cli(
        scans, tmp_path / "out", "--model-uri", stand_in_model, "--log-format", "json"
    )  # with tracking, so that MLflow has something to say
    assert result.code == 1, result.err
    log = records(result)
    (end,) = [record for record in log if "exit" in record]
    assert end.pop("time") and end.pop("duration_s") > 0
    assert re.fullmatch(
        r"4 rows written in \d+ s\. The output holds 4 rows: .*", end.pop("message")
    )
    assert end == {
        "level": "INFO", "objects": 4, "rows": 4, "rows_written": 4, "answered": 3, "undecided": 0,
        "out_of_domain": 0, "failed": 1, "series": None,
        "model_digest": result.summary["model_digest"], "exit": 1,
    }  # fmt: skip
    assert "1 of 4 rows have errors" in log[-1]["message"]
    assert "Jane" not in result.err


def test_what_is_wrong_is_an_object_too(tmp_path: Path, run_cli: Run) -> None:
    as_json = ("--log-format", "json")
    (missing,) = records(run_cli(tmp_path / "none", tmp_path / "out", "--dry-run", *as_json))
    assert (missing["level"], missing["exit"]) == ("ERROR", 2)
    assert re.fullmatch(
        r"The input folder .* does not exist\. Check its path\.", missing["message"]
    )
    for arguments in (
        ("gs://b/in", tmp_path),
        (tmp_path, tmp_path, "--workers", "0"),
        (tmp_path, tmp_path, "--master", "local"),
        (),
    ):
        result = run_cli(*arguments, *as_json)
        assert (result.code, result.out) == (2, "")
        (record,) = records(result)
        assert (record["level"], record["exit"]) == ("ERROR", 2)


def test_progress_in_numbers() -> None:
    run = RunState(scoring_since=10.0, objects_skipped=120, rows_scored=38, rows_failed=2)
    facts = {"rows": 160, "objects": None, "rows_per_s": 2.0, "errors": 2, "left_s": None}
    assert progress_facts(run, 30.0) == facts
    run.objects_total = 400
    assert progress_facts(run, 30.0) == facts | {"objects": 400, "left_s": 120.0}
