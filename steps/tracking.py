"""The MLflow run of a stage, wherever the stage was started from."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import mlflow
import requests
from mlflow.utils.credentials import read_mlflow_creds

from steps.errors import StageError

PARENT_RUN_VARIABLE = "CHEST_CT_PARENT_RUN_ID"
DEFAULT_EXPERIMENT = "chest-ct"
PROBE_TIMEOUT_S = 15


@contextlib.contextmanager
def stage_run(stage: str) -> Iterator[mlflow.ActiveRun]:
    """Open the stage's MLflow run; it ends as FAILED when the block raises.

    Started by `mlflow run`, the run that MLflow made is resumed; started by `main`, the run is a
    child of main's; started by hand or by `dvc repro`, it is a run of its own in the experiment
    `MLFLOW_EXPERIMENT_NAME` (default `chest-ct`).

    Raises:
        StageError: the tracking server does not answer or refuses the credentials.
    """
    check_tracking_server()
    if started_by_main():
        print_progress(f"\n{stage}")
    parent_run_id = os.environ.get(PARENT_RUN_VARIABLE)
    if parent_run_id:
        run = mlflow.start_run(run_name=stage, parent_run_id=parent_run_id)
    elif os.environ.get("MLFLOW_RUN_ID"):
        run = mlflow.start_run()
    else:
        if not os.environ.get("MLFLOW_EXPERIMENT_ID"):
            mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", DEFAULT_EXPERIMENT))
        run = mlflow.start_run(run_name=stage)
    with run:
        mlflow.set_tag("stage", stage)
        commit = git_commit()
        if commit:
            mlflow.set_tag("mlflow.source.git.commit", commit)
        yield run


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


def check_tracking_server() -> None:
    """Ask a remote tracking server one quick question, so that faults show before any work.

    Without this, MLflow retries a dead server for minutes and ends in a traceback.

    Raises:
        StageError: no answer, or the credentials are refused.
    """
    uri = mlflow.get_tracking_uri()
    if not uri.startswith(("http://", "https://")):
        return
    credentials = read_mlflow_creds()  # the variables, or ~/.mlflow/credentials
    auth = (credentials.username, credentials.password or "") if credentials.username else None
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token and not auth else {}
    try:
        answer = requests.get(
            f"{uri.rstrip('/')}/api/2.0/mlflow/experiments/search",
            params={"max_results": "1"},
            auth=auth,
            headers=headers,
            timeout=PROBE_TIMEOUT_S,
            verify=os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "false").lower() != "true",
        )
    except requests.RequestException as error:
        raise StageError(
            f"The tracking server {uri} does not answer ({type(error).__name__}). Check "
            "MLFLOW_TRACKING_URI and the network, or unset it to track in a local file."
        ) from error
    if answer.status_code in (401, 403):
        raise StageError(
            f"The tracking server {uri} refused the credentials (HTTP {answer.status_code}). "
            "Check MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."
        )
    if answer.status_code >= 400:
        raise StageError(
            f"{uri} answered HTTP {answer.status_code} instead of an MLflow tracking API. "
            "Check MLFLOW_TRACKING_URI (on DagsHub it ends in .mlflow)."
        )


def git_commit() -> str | None:
    """Return the checkout's commit, with `-dirty` where files differ; None outside git."""
    root = Path(__file__).resolve().parents[1]
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"],
            cwd=root, capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip() or None


def print_progress(message: str) -> None:
    """Print progress to standard error, where it cannot mix with a command's results."""
    click.echo(message, err=True)
