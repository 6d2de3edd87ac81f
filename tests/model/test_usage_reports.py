"""Nothing tells anybody that it is used: OpenVINO and NNCF would, and fork a process to do so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.model.tiny import Tiny

ROOT = Path(__file__).resolve().parents[2]
LOAD = """
import os, sys
os.register_at_fork(before=lambda: print("a fork"))
import mlflow
model = mlflow.pyfunc.load_model(sys.argv[1])
print(model.predict(model.input_example)["error"].isna().all())
"""
PREPARE = """
import os
os.register_at_fork(before=lambda: print("a fork"))
import model.network
import nncf
print("True")
"""


@pytest.mark.parametrize("code", [LOAD, PREPARE], ids=["a saved model", "the pipeline"])
def test_no_report_is_prepared(code: str, tiny_pipeline: Tiny, tmp_path: Path) -> None:
    """OpenVINO's telemetry keeps an identity in ~/intel, and asks no more than once."""
    variables = {k: v for k, v in os.environ.items() if k not in ("CI", "TF_BUILD", "JENKINS_URL")}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tiny_pipeline.model)],
        cwd=ROOT if code is PREPARE else tmp_path,
        env=variables | {"HOME": str(tmp_path), "MLFLOW_DISABLE_TELEMETRY": "true"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["True"]
    assert not (tmp_path / "intel").exists()


@pytest.mark.parametrize("package", ["steps", "batch", "serve"])
def test_mlflow_reports_nothing(package: str) -> None:
    variables = {k: v for k, v in os.environ.items() if k != "MLFLOW_DISABLE_TELEMETRY"}
    code = f"import {package}, os; print(os.environ['MLFLOW_DISABLE_TELEMETRY'])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=variables, capture_output=True, text=True
    )
    assert done.stdout == "true\n", done.stderr
