"""The one experiment that runs lie in, however they are started.

`mlflow run .` makes its run before any code of this project: in the experiment `Default`, unless
it is told another. In a store of this project's own that experiment is renamed; on a server that
others use too, the run goes on as another one in the right experiment.
"""

from __future__ import annotations

import os
import re

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException

EXPERIMENT = "chest-ct"
DEFAULT = "Default"  # mlflow.entities.Experiment.DEFAULT_EXPERIMENT_NAME
KIND = ("mlflow.experimentKind", "custom_model_development")  # MLflow's page then shows Models
GONE_ON = "continued_as"  # tag of a run that goes on as another
BY_MLFLOW = re.compile(r"[a-z]+-[a-z]+-\d{1,4}")  # such as bouncy-hawk-123


def started_run(name: str) -> mlflow.ActiveRun:
    """Start a run, or go on with the one that `mlflow run` made.

    It lies in the experiment that somebody chose, by MLFLOW_EXPERIMENT_ID or
    MLFLOW_EXPERIMENT_NAME, or in `chest-ct`.

    Args:
        name: of the run; one that a person gave stays.
    """
    given = os.environ.get("MLFLOW_RUN_ID")
    if given:
        run = resumed_run(given)
        if given_by_mlflow(run.info.run_name):
            mlflow.set_tag("mlflow.runName", name)
        return run
    chosen = os.environ.get("MLFLOW_EXPERIMENT_ID") or experiment_id()
    return mlflow.start_run(run_name=name, experiment_id=chosen)


def given_by_mlflow(name: str | None) -> bool:
    """Return whether no person gave a run its name."""
    return not name or bool(BY_MLFLOW.fullmatch(name))


def experiment_id() -> str:
    """Return the experiment of new runs: `MLFLOW_EXPERIMENT_NAME` (default `chest-ct`)."""
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
    if name == EXPERIMENT:
        _rename_default(None)
    client = MlflowClient()
    if found := client.get_experiment_by_name(name):
        return str(found.experiment_id)
    try:
        return str(client.create_experiment(name, tags=dict([KIND])))
    except MlflowException as error:  # another run was faster
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    return str(client.get_experiment_by_name(name).experiment_id)


def resumed_run(run_id: str) -> mlflow.ActiveRun:
    """Go on with the run that `mlflow run` made, in the experiment that it should have been in.

    Args:
        run_id: of that run. In any experiment but `Default` somebody chose it, and it stays there.
    """
    client = MlflowClient()
    given = client.get_run(run_id)
    experiment = client.get_experiment(given.info.experiment_id)
    if experiment.name != DEFAULT or _rename_default(run_id):
        return mlflow.start_run(run_id=run_id)
    for variable in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID"):
        os.environ.pop(variable, None)
    return _continued(client, given)


def _rename_default(own_run: str | None) -> bool:
    """Call `Default` of a local store `chest-ct` where nothing else lies in it; tell whether so."""
    client = MlflowClient()
    if mlflow.get_tracking_uri().startswith(("http://", "https://")):
        return False  # others may use it
    default = client.get_experiment_by_name(DEFAULT)
    if default is None or client.get_experiment_by_name(EXPERIMENT):
        return False
    runs = client.search_runs([default.experiment_id], run_view_type=ViewType.ALL, max_results=2)
    if any(run.info.run_id != own_run for run in runs):
        return False
    client.rename_experiment(default.experiment_id, EXPERIMENT)
    client.set_experiment_tag(default.experiment_id, *KIND)
    return True


def _continued(client: MlflowClient, given: Run) -> mlflow.ActiveRun:
    tags = {key: value for key, value in given.data.tags.items() if key != "mlflow.runName"}
    run = mlflow.start_run(run_name=given.info.run_name, tags=tags, experiment_id=experiment_id())
    mlflow.log_params(given.data.params)
    client.set_tag(given.info.run_id, GONE_ON, run.info.run_id)
    # It is not deleted: `mlflow run` ends it once more at its own end, and fails where it cannot.
    client.set_terminated(given.info.run_id, "FINISHED")
    return run
