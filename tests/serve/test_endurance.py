"""The endurance test itself, for some seconds: the full hour is run by hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.endurance import Results, fault_of, verdicts
from benchmarks.endurance_requests import Request
from tests.model.tiny import Tiny
from tests.serve.server_process import ROOT


@pytest.mark.slow
def test_some_seconds_of_load(tiny_pipeline: Tiny, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.endurance", "--model", str(tiny_pipeline.model)]
    command += ["--minutes", "0.3", "--log", str(tmp_path / "log")]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    for held in ("the server is alive", "every answer is right", "no answer is a 500"):
        assert f"holds: {held}" in ended.stdout, ended.stdout + ended.stderr


def test_faults_are_found() -> None:
    fine = Request("fine", "/predict")
    refused = Request("refused", "/predict", statuses=(400,))
    error = b'{"error_code": "BAD_REQUEST", "message": "Expected x"}'
    assert fault_of(fine, 200, b"a", b"a") is None
    assert fault_of(fine, 503, error, b"a") is None
    assert fault_of(refused, 400, error, None) is None
    assert "another answer" in str(fault_of(fine, 200, b"b", b"a"))
    assert "received 500" in str(fault_of(refused, 500, error, None))
    assert "documented form" in str(fault_of(refused, 400, b"Bad Request", None))
    results = Results()
    results.memory_mib[:] = [100.0] * 10 + [200.0] * 10
    results.descriptors[:] = [10] * 10 + [50] * 10
    results.note("good", "504", 1.0, None)
    held = verdicts(results, alive=True)
    assert list(held.values()) == [True, True, False, True, False, False]
