"""Scans that end the process which scores them, or never let it answer: one row each."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from batch import model_process
from batch.faults import CannotRunError
from batch.model_process import ModelDiedError, ModelProcess
from batch.pyfunc import pinned_model
from tests.batch.conftest import Bucket, Run, png
from tests.batch.test_job import save_model

# What a decoder can do to its process. `refuse` raises, which costs no process.
HOSTILE = """
        import os, signal, time
        for image in model_input["image"]:
            if image.startswith(b"kill"):
                os.kill(os.getpid(), signal.SIGKILL)
            elif image.startswith(b"abort"):
                os.abort()
            elif image.startswith(b"exit"):
                os._exit(0)
            elif image.startswith(b"leave"):
                raise SystemExit(3)
            elif image.startswith(b"hang"):
                time.sleep(3600)
            elif image.startswith(b"refuse"):
                raise MemoryError("too large")
            elif image.startswith(b"print"):
                os.write(1, b"printed by a decoder")
        return super().predict(context, model_input, params)
"""


@pytest.fixture
def hostile_model(tmp_path: Path) -> Path:
    """Return a model that some scans kill."""
    return save_model(tmp_path, HOSTILE.rstrip())


def test_each_scan_that_kills_its_process_is_one_row_and_costs_its_neighbours_nothing(
    bucket: Bucket, run_here: Run, hostile_model: Path, stand_in_model: Path
) -> None:
    good = {f"scans/{n:03d}.png": png(n) for n in range(70)}
    hostile = {
        "scans/010-a": b"kill", "scans/010-b": b"abort", "scans/069-a": b"exit",
        "scans/069-b": b"leave",
    }  # fmt: skip
    bucket.put(good)
    expected = run_here(
        f"s3://{bucket.name}/scans/", f"s3://{bucket.name}/expected/", "--model-uri",
        stand_in_model, "--no-tracking",
    )  # fmt: skip
    assert expected.code == 0
    bucket.put(hostile | {"scans/011-a": b"refuse"})
    arguments = (
        f"s3://{bucket.name}/scans/", f"s3://{bucket.name}/scores/",
        "--model-uri", hostile_model, "--no-tracking",
    )  # fmt: skip
    result = run_here(*arguments)
    assert result.code == 1, result.err
    assert result.summary["errors"] == {"model_died": 4, "model_failed": 1}
    assert (result.summary["rows"], result.summary["rows_lost"]) == (75, 0)
    rows = {r["uri"].partition("/scans/")[2]: r for r in bucket.table("scores/").to_pylist()}
    assert len(rows) == bucket.table("scores/").num_rows == 75
    assert "SIGKILL" in rows["010-a"]["error"]
    assert "SIGABRT" in rows["010-b"]["error"]
    assert "ended with exit code 0" in rows["069-a"]["error"]
    assert "ended with exit code 1" in rows["069-b"]["error"]
    assert rows["010-a"]["label"] is None
    answers = ("label", "probability", "p_normal", "error")
    for row in bucket.table("expected/").to_pylist():
        scored = rows[row["uri"].partition("/scans/")[2]]
        assert [scored[name] for name in answers] == [row[name] for name in answers]
    again = run_here(*arguments)
    assert (again.code, again.summary["objects_read"]) == (1, 0)


@pytest.mark.slow
def test_a_scan_that_never_ends_is_given_up(
    tmp_path: Path, run_here: Run, hostile_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_process, "CALL_LIMIT_S", 3.0)
    monkeypatch.setattr(model_process, "SCAN_LIMIT_S", 0.1)
    scans = tmp_path / "scans"
    scans.mkdir()
    for n in range(5):
        (scans / f"{n}.png").write_bytes(png(n))
    (scans / "2-hangs").write_bytes(b"hang")
    (scans / "3-prints").write_bytes(b"print")
    result = run_here(scans, tmp_path / "out", "--model-uri", hostile_model, "--no-tracking")
    assert result.code == 1, result.err
    assert result.summary["errors"]["model_died"] == 1
    assert (result.summary["rows"], result.summary["rows_with_errors"]) == (7, 2)
    assert "printed" not in result.out


@pytest.mark.slow
def test_a_process_that_dies_of_every_scan_ends_the_job_and_keeps_its_rows(
    tmp_path: Path, run_here: Run, hostile_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batch.pipeline.MODEL_IS_BROKEN", 2)
    scans = tmp_path / "scans"
    scans.mkdir()
    for n in range(4):
        (scans / f"{n}").write_bytes(b"kill" + bytes(n))
    arguments = (scans, tmp_path / "out", "--model-uri", hostile_model, "--no-tracking")
    stopped = run_here(*arguments)
    assert stopped.code == 2
    assert "ended at each of 2 scans in a row" in stopped.err
    assert "--retry-failed" in stopped.err
    on = run_here(*arguments)  # the two that are left make two in a row as well
    assert on.code == 2
    finished = run_here(*arguments)
    assert (finished.code, finished.summary["errors"]) == (1, {"model_died": 4})


def test_a_process_killed_from_outside_is_replaced(stand_in_model: Path) -> None:
    with pinned_model(str(stand_in_model)) as pinned, ModelProcess(pinned) as model:
        before = model.score([png(7)])
        os.kill(model._child._process.pid, signal.SIGKILL)
        with pytest.raises(ModelDiedError, match="SIGKILL"):
            while True:  # the first call may meet a process that is not known to be dead
                model.score([png(7)])
        assert model.score([png(7)]) == before
    assert model._child._process.poll() is not None


def test_a_model_that_dies_while_it_is_loaded_is_said_in_one_sentence(
    tmp_path: Path, stand_in_model: Path
) -> None:
    model = save_model(tmp_path, "\n        return None")
    (model / "changed.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    with (
        pinned_model(str(model)) as pinned,
        pytest.raises(CannotRunError, match=r"cannot be loaded: its process was killed \(SIGKILL"),
    ):
        ModelProcess(pinned)
