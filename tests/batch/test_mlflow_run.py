"""The job as an MLflow project's entry point, from a checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
from mlflow import MlflowClient
from mlflow.entities import Run

from tests.batch.conftest import ROOT, clean_environment, png


def mlflow_run(tmp_path: Path, **parameters: object) -> subprocess.CompletedProcess[str]:
    """Run the entry point of this checkout; what MLflow itself writes goes to `tmp_path`."""
    given = [text for k, v in parameters.items() for text in ("-P", f"{k}={v}")]
    programs = Path(sys.executable).parent
    command = ["mlflow", "run", ROOT, "-e", "batch_scoring", *given, "--env-manager", "local"]
    return subprocess.run(
        [programs / command[0], *command[1:]],
        env=clean_environment(tmp_path, PATH=f"{programs}{os.pathsep}{os.environ['PATH']}"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )


def only_run(tmp_path: Path) -> tuple[MlflowClient, Run]:
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiments = [found.experiment_id for found in client.search_experiments()]
    (run,) = client.search_runs(experiments)
    assert client.get_experiment(run.info.experiment_id).name == "chest-ct"
    return client, run


def test_mlflow_run_scores_a_folder_as_one_tracked_run(
    tmp_path: Path, stand_in_model: Path
) -> None:
    scans, scores = tmp_path / "scans of today", tmp_path / "scores"
    scans.mkdir()
    for n in range(5):
        (scans / f"{n}.png").write_bytes(png(n))
    done = mlflow_run(tmp_path, input=scans, output=scores, model_uri=stand_in_model, batch_size=2)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert pq.read_table(scores / "part-00000.parquet").num_rows == 5
    assert (scores / "_SUCCESS").exists()
    summary = json.loads((scores / "summary.json").read_text())
    client, run = only_run(tmp_path)
    assert run.info.run_id == summary["mlflow_run_id"]
    assert run.info.status == "FINISHED"
    assert run.data.params["batch_size"] == "2"
    assert run.data.params["workers"] == "16", "what the entry point does not have is logged too"
    assert run.data.tags["model_uri"] == stand_in_model.as_uri()
    assert run.data.metrics["rows"] == 5
    assert run.info.run_name == f"batch_scoring · {scans.as_uri()}"[:120]
    assert run.data.tags["stage"] == "batch_scoring"
    artifacts = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert artifacts == {"summary.json", "errors_sample.json"}


def test_mlflow_run_fails_where_rows_have_errors(tmp_path: Path, stand_in_model: Path) -> None:
    """And where others use the store as well, the job's run lies in the experiment all the same."""
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    somebodys = client.create_run("0").info.run_id
    scans, scores = tmp_path / "scans", tmp_path / "scores"
    scans.mkdir()
    (scans / "1.png").write_bytes(png(1))
    (scans / "notes.txt").write_bytes(b"no scan")
    done = mlflow_run(
        tmp_path, input=scans, output=scores, model_uri=stand_in_model, log_format="json"
    )
    assert done.returncode == 1
    (end,) = [json.loads(line) for line in done.stderr.splitlines() if '"exit": ' in line]
    assert (end["exit"], end["rows"], end["failed"]) == (1, 2, 1)
    assert (scores / "_SUCCESS").exists()
    experiment = client.get_experiment_by_name("chest-ct")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_id == json.loads((scores / "summary.json").read_text())["mlflow_run_id"]
    assert run.data.metrics["rows_with_errors"] == 1
    assert run.data.params["batch_size"] == "64"
    (made,) = [run for run in client.search_runs(["0"]) if run.info.run_id != somebodys]
    assert made.info.status == "FAILED"
    assert made.data.tags["continued_as"] == run.info.run_id
