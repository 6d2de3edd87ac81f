"""The trained model as MLflow's LoggedModel: one in an experiment for each `model_digest`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import LoggedModelInput, LoggedModelOutput, LoggedModelStatus
from mlflow.exceptions import MlflowException
from mlflow.models import Model

MODEL_TYPE = "image classifier"
DIGEST_CHARACTERS = 8  # of the digest, in a model's name
UNKNOWN_TO_SERVER = "ENDPOINT_NOT_FOUND"  # a tracking server older than MLflow 3
FOLDER = "model"  # of the run's artefacts, on such a server


def logged_model(folder: Path, run: mlflow.ActiveRun, digest: str | None = None) -> str | None:
    """Find the LoggedModel of a saved pyfunc in the run's experiment, or make it.

    Args:
        folder: the saved pyfunc.
        run: becomes the source of a model that is new.
        digest: of the model, where it is not the `model_digest` that its metadata state.

    Returns:
        The model's id; None where the tracking server knows no such models: the files of the
        model are then artefacts of the run, under `model`.
    """
    metadata = Model.load(str(folder)).metadata or {}
    digest = digest or str(metadata["model_digest"])
    client = MlflowClient()
    try:
        found = client.search_logged_models(
            [run.info.experiment_id], f"tags.model_digest = '{digest}'"
        )
        ready = [model for model in found if model.status == LoggedModelStatus.READY]
        return ready[0].model_id if ready else _new(client, folder, run, metadata, digest)
    except MlflowException as error:
        if error.error_code != UNKNOWN_TO_SERVER:
            raise
    client.log_artifacts(run.info.run_id, str(folder), FOLDER)
    return None


def _new(
    client: MlflowClient,
    folder: Path,
    run: mlflow.ActiveRun,
    metadata: Mapping[str, Any],
    digest: str,
) -> str:
    phantom = metadata.get("phantom")
    model = client.create_logged_model(
        run.info.experiment_id,
        name=f"{'phantom' if phantom else 'chest-ct'}-{digest[:DIGEST_CHARACTERS]}",
        source_run_id=run.info.run_id,
        tags={
            "model_digest": digest,
            "data_digest": str(metadata.get("data_digest")),
            "phantom": str(phantom).lower(),
        },
        params=dict(client.get_run(run.info.run_id).data.params),
        model_type=MODEL_TYPE,
    )
    client.log_model_artifacts(model.model_id, str(folder))
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    return str(model.model_id)


def link_model(run_id: str, model_id: str | None, *, made: bool) -> None:
    """Show a LoggedModel on a run's page.

    Args:
        run_id: of the run.
        model_id: what `logged_model` returned; None links nothing.
        made: whether the run made the model, or used it.
    """
    if model_id is None:
        return
    client = MlflowClient()
    if made:
        client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])
    else:
        client.log_inputs(run_id, models=[LoggedModelInput(model_id)])
