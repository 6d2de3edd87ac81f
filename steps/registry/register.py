"""Make an evaluated model a version of the registered model."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
import yaml
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

from steps.headline_metrics import at
from steps.registry.description import describe
from steps.registry.errors import RegistryError

MODEL_DIGEST = "model_digest"  # in the metadata of MLmodel and in a version's tags
MODEL_ARTIFACT = "registered_model"  # folder of the run's artefacts that holds the pyfunc
MANIFEST_ARTIFACT = "registry/manifest.csv"
SCORES_ARTIFACT = "registry/scores.json"
SCORE_TAG = "score."  # of a version's tags; all other numbers are in SCORES_ARTIFACT
TAGGED_SCORES = (
    "accuracy", "n", "roc_auc", "sensitivity.value",
    "sensitivity_floor.stated", "sensitivity_floor.upper_bound",
)  # fmt: skip
MANIFEST_COLUMNS = ("sha256", "label", "group", "split")  # no paths: names may name patients


def register(
    model_folder: Path,
    *,
    name: str,
    scores: Mapping[str, Any],
    manifest: Path,
    git_commit: str | None = None,
    dvc_lock: Path | None = None,
    model_id: str | None = None,
) -> int:
    """Register a saved pyfunc, with what promotion needs to know about it, in the active run.

    The manifest (without file names) and the scores become artefacts of the run, as does the
    folder, unless it is a LoggedModel already; the version points to them and describes itself. A
    model with the `model_digest` of a present version is that version, and nothing is written.

    Args:
        model_folder: the saved pyfunc; it has a signature and an input example.
        name: of the registered model; made where it is missing.
        scores: of the evaluation; those of TAGGED_SCORES become tags `score.<path>`.
        manifest: data_ingestion's manifest.csv, which says what each split held.
        git_commit: of the code.
        dvc_lock: dvc.lock of the pipeline; its `lock_digest` becomes a tag.
        model_id: of the LoggedModel with the same files, see `steps.tracking.logged_model`.

    Returns:
        The version's number.

    Raises:
        RegistryError: no active run, or the model lacks its signature, input example or digest.
    """
    run = mlflow.active_run()
    if run is None:
        raise RegistryError("Registering needs an active MLflow run, and there is none.")
    model = Model.load(str(model_folder))
    if model.signature is None or model.saved_input_example_info is None:
        raise RegistryError(
            f"The model in {model_folder} cannot be registered: it has no signature or no input "
            "example; save it with both."
        )
    metadata = model.metadata or {}
    digest = metadata.get(MODEL_DIGEST)
    if not digest:
        raise RegistryError(
            f"The model in {model_folder} cannot be registered: its MLmodel has no {MODEL_DIGEST}. "
            "An older version saved it; train it again: mlflow run ."
        )
    client = MlflowClient()
    present = find_version(client, name, digest)
    if present is not None:
        return present
    if model_id is None:
        mlflow.log_artifacts(str(model_folder), MODEL_ARTIFACT)
    mlflow.log_text(_without_paths(manifest), MANIFEST_ARTIFACT)
    mlflow.log_dict(dict(scores), SCORES_ARTIFACT)
    tags = {
        MODEL_DIGEST: digest,
        "data_digest": metadata.get("data_digest", "unknown"),
        "phantom": json.dumps(metadata.get("phantom")),  # true, false, or null for unknown
        "git_commit": git_commit or "unknown",
        "dvc_lock_digest": lock_digest(dvc_lock) if dvc_lock else "unknown",
        "source_run": run.info.run_id,
    }
    version = client.create_model_version(
        name,
        source=f"models:/{model_id}" if model_id else mlflow.get_artifact_uri(MODEL_ARTIFACT),
        run_id=run.info.run_id,
        tags=tags | score_tags(scores),
        description=describe(metadata, scores),
        model_id=model_id,
    )
    if model_id:
        _show_on_model(client, model_id, name, int(version.version))
    return int(version.version)


def _show_on_model(client: MlflowClient, model_id: str, name: str, number: int) -> None:
    """Name a version on the LoggedModel's page: a server does so by itself, a local store not."""
    shown = json.loads(client.get_logged_model(model_id).tags.get(MLFLOW_MODEL_VERSIONS, "[]"))
    if not any(one["name"] == name and int(one["version"]) == number for one in shown):
        versions = json.dumps([*shown, {"name": name, "version": str(number)}])
        client.set_logged_model_tags(model_id, {MLFLOW_MODEL_VERSIONS: versions})


def score_tags(scores: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags of a version that gates and pages read; a number that is unknown has none."""
    found = {path: at(scores, path) for path in TAGGED_SCORES}
    return {SCORE_TAG + path: f"{value:.6g}" for path, value in found.items() if value is not None}


def find_version(client: MlflowClient, name: str, digest: str) -> int | None:
    """Return the newest version with this model digest; make the registered model if needed."""
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    found = client.search_model_versions(f"name='{name}' and tag.{MODEL_DIGEST}='{digest}'")
    return max((int(version.version) for version in found), default=None)


def lock_digest(dvc_lock: Path) -> str:
    """Return the SHA-256 over dvc.lock's stages up to training; `unknown` without such a file.

    The evaluation's own entry is left out: DVC writes it after the evaluation has registered.
    """
    if not dvc_lock.is_file():
        return "unknown"
    stages = (yaml.safe_load(dvc_lock.read_text(encoding="utf-8")) or {}).get("stages", {})
    kept = {name: entry for name, entry in stages.items() if name != "evaluation"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()


def _without_paths(manifest: Path) -> str:
    with manifest.open(newline="", encoding="utf-8") as file:
        rows = [[row[column] for column in MANIFEST_COLUMNS] for row in csv.DictReader(file)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([MANIFEST_COLUMNS, *rows])
    return text.getvalue()
