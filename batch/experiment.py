"""The one experiment that runs lie in, `chest-ct`, also for a job that `mlflow run` started.

The same as for the pipeline's runs (steps/tracking/experiment.py, ADR 47), which this package may
not import; tests/steps/test_experiment.py holds the two together.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import mlflow
    from mlflow import MlflowClient
    from mlflow.entities import Run

EXPERIMENT = "chest-ct"
DEFAULT = "Default"  # where `mlflow run` makes its run, unless it is told another
KIND = ("mlflow.experimentKind", "custom_model_development")  # MLflow's page then shows Models
GONE_ON = "continued_as"  # tag of a run that goes on as another
BY_MLFLOW = re.compile(r"[a-z]+-[a-z]+-\d{1,4}")  # such as bouncy-hawk-123


def start_run(name: str) -> mlflow.ActiveRun:
    """Start the job's run, or go on with the one that `mlflow run` made.

    An experiment that somebody chose, by MLFLOW_EXPERIMENT_NAME or MLFLOW_EXPERIMENT_ID, stays.

    Args:
        name: of the run; one that a person gave stays.
    """
    import mlflow

    given = os.environ.get("MLFLOW_RUN_ID")
    if given:
        run = resumed_run(given)
        if BY_MLFLOW.fullmatch(run.info.run_name or ""):
            mlflow.set_tag("mlflow.runName", name)
        return run
    if {"MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"} & set(os.environ):
        return mlflow.start_run(run_name=name)
    return mlflow.start_run(run_name=name, experiment_id=experiment_id())


def experiment_id() -> str:
    """Return the experiment `chest-ct`, made where it is not there yet."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    client = MlflowClient()
    _rename_default(client, None)
    if found := client.get_experiment_by_name(EXPERIMENT):
        return str(found.experiment_id)
    try:
        return str(client.create_experiment(EXPERIMENT, tags=dict([KIND])))
    except MlflowException as error:  # another job was faster
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    return str(client.get_experiment_by_name(EXPERIMENT).experiment_id)


def resumed_run(run_id: str) -> mlflow.ActiveRun:
    """Go on with the run that `mlflow run` made, in the experiment that it should have been in.

    Args:
        run_id: of that run. In any experiment but `Default` somebody chose it, and it stays there.
    """
    import mlflow
    from mlflow import MlflowClient

    client = MlflowClient()
    given = client.get_run(run_id)
    experiment = client.get_experiment(given.info.experiment_id)
    if experiment.name != DEFAULT or _rename_default(client, run_id):
        return mlflow.start_run(run_id=run_id)
    for variable in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID"):
        os.environ.pop(variable, None)
    return _continued(client, given)


def _rename_default(client: MlflowClient, own_run: str | None) -> bool:
    """Call `Default` of a local store `chest-ct` where nothing else lies in it; tell whether so."""
    import mlflow
    from mlflow.entities import ViewType

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
    import mlflow

    tags = {key: value for key, value in given.data.tags.items() if key != "mlflow.runName"}
    run = mlflow.start_run(run_name=given.info.run_name, tags=tags, experiment_id=experiment_id())
    mlflow.log_params(given.data.params)
    client.set_tag(given.info.run_id, GONE_ON, run.info.run_id)
    # It is not deleted: `mlflow run` ends it once more at its own end, and fails where it cannot.
    client.set_terminated(given.info.run_id, "FINISHED")
    return run
