"""The MLflow run of a stage, wherever the stage was started from."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import mlflow

from logs.experiment import started_run
from steps.tracking.progress import print_progress
from steps.tracking.server import check_tracking_server

PARENT_RUN_VARIABLE = "CHEST_CT_PARENT_RUN_ID"
WRITTEN_BY_RUNS = ("overrides.yaml", "dvc.lock")


@contextlib.contextmanager
def stage_run(stage: str, name: str | None = None) -> Iterator[mlflow.ActiveRun]:
    """Open the stage's MLflow run; it ends as FAILED when the block raises.

    Started by `mlflow run`, the run that MLflow made is resumed; started by `main`, the run is a
    child of main's; started by hand or by `dvc repro`, it is a run of its own. All lie in the
    experiment `MLFLOW_EXPERIMENT_NAME` (default `chest-ct`).

    Args:
        stage: its name, which becomes the tag `stage`.
        name: of the run, see `steps.tracking.names`; a name that a person gave stays.

    Raises:
        StageError: the tracking server does not answer or refuses the credentials.
    """
    check_tracking_server()
    if started_by_main():
        print_progress(f"\n{stage}")
    parent_run_id = os.environ.get(PARENT_RUN_VARIABLE)
    name = name or stage
    if parent_run_id:
        run = mlflow.start_run(run_name=name, parent_run_id=parent_run_id)
    else:
        run = started_run(name)
    with run:
        mlflow.set_tags({"stage": stage} | _origin())
        yield run


def _origin() -> dict[str, str]:
    """Return tags that say which code ran, and in which experiment of DVC's."""
    found = {"mlflow.source.git.commit": git_commit(), "dvc_exp": os.environ.get("DVC_EXP_NAME")}
    return {key: value for key, value in found.items() if value}


def started_by_main() -> bool:
    """Return whether this stage is part of a run of the whole pipeline, which prints the scores."""
    return PARENT_RUN_VARIABLE in os.environ


def log_params(params: Mapping[str, Any]) -> None:
    """Log a stage's parameters to the active run.

    Those that the run already has stay: `mlflow run` logs the words of its command line (`true`,
    `''`), and MLflow refuses to have them changed to what a stage read in them (`True`, ``).
    """
    run = mlflow.active_run()
    known = mlflow.get_run(run.info.run_id).data.params if run else {}
    mlflow.log_params({name: value for name, value in params.items() if name not in known})


def git_commit() -> str | None:
    """Return the checkout's commit, with `-dirty` where files differ; None outside git.

    What a run itself writes does not count: its parameters are logged, its dvc.lock has a digest.
    """
    try:
        commit = _git("rev-parse", "HEAD")
        own = [f":!{name}" for name in WRITTEN_BY_RUNS]
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", *own)
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{commit}-dirty" if changed else commit


def _git(*arguments: str) -> str:
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.strip()
