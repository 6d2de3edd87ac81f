"""Where a model comes from: a registry, an object store or a folder."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DISCLAIMER = "Research software, not a medical device."
METADATA_SHOWN = ("classes", "image_size_px", "precision", "data_digest", "phantom")


@dataclass(frozen=True)
class ModelFiles:
    """A model on this machine's disk, and what the registry says about it.

    Args:
        folder: the MLflow model.
        name: registered name, or None for a model that no registry knows.
        version: registered version.
        stage: `Staging`, `Production`, …, or None.
        aliases: names such as `champion` that point at this version.
        tags: the version's tags.
    """

    folder: Path
    name: str | None = None
    version: str | None = None
    stage: str | None = None
    aliases: list[str] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)


class ModelNotFoundError(Exception):
    """No model could be got from the URI given."""


def fetch(model_uri: str) -> ModelFiles:
    """Return the model behind a URI, downloaded if it is not a local folder.

    `models:/name/stage` and `models:/name@alias` are turned into a version first, so that all
    workers of a server hold the same one, and `GET /model` names what is really served.

    Raises:
        ModelNotFoundError: with one sentence that says what to do.
    """
    import mlflow.artifacts
    from mlflow.exceptions import MlflowException

    try:
        registered = registered_version(model_uri)
        if registered is None:
            folder = Path(mlflow.artifacts.download_artifacts(artifact_uri=model_uri))
            files = ModelFiles(folder)
        else:
            files = registered
    except (MlflowException, OSError, ValueError) as error:
        raise ModelNotFoundError(
            f"Expected a model at {model_uri}, such as models:/chest-ct/Production, s3://… or a "
            f"folder; {first_line(error)} Check the URI and MLFLOW_TRACKING_URI."
        ) from error
    if not (files.folder / "MLmodel").is_file():
        raise ModelNotFoundError(
            f"Expected an MLflow model at {model_uri}; there is no MLmodel file in it. "
            "Give the folder that `mlflow.pyfunc.save_model` wrote."
        )
    return files


def first_line(error: Exception) -> str:
    """Return an error's first line as the end of a sentence."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
    return line if line.endswith(".") else f"{line}."


def registered_version(model_uri: str) -> ModelFiles | None:
    """Return a registered model version, downloaded; None if the URI names no registered model."""
    import mlflow.artifacts
    from mlflow import MlflowClient
    from mlflow.store.artifact.utils.models import get_model_name_and_version

    reference = model_uri.removeprefix("models:/")
    if reference == model_uri or ("/" not in reference and "@" not in reference):
        return None
    client = MlflowClient()
    with warnings.catch_warnings():
        # MLflow deprecates stages; this project serves users of stages and of aliases alike.
        warnings.simplefilter("ignore", FutureWarning)
        name, version = get_model_name_and_version(client, model_uri)
        found = client.get_model_version(name, version)
    aliases = client.get_registered_model(name).aliases
    uri = f"models:/{name}/{version}"
    return ModelFiles(
        folder=Path(mlflow.artifacts.download_artifacts(artifact_uri=uri)),
        name=name,
        version=str(version),
        stage=None if found.current_stage in (None, "None") else found.current_stage,
        aliases=sorted(alias for alias, held in aliases.items() if str(held) == str(version)),
        tags=dict(found.tags),
    )


def about(files: ModelFiles, metadata: Any) -> dict[str, Any]:
    """Return what GET /model tells.

    Args:
        files: where the model came from.
        metadata: the loaded model's `mlflow.models.Model`.
    """
    own = metadata.metadata or {}
    schema = metadata.get_params_schema() if hasattr(metadata, "get_params_schema") else None
    return {
        "name": files.name,
        "version": files.version,
        "stage": files.stage,
        "aliases": files.aliases,
        **{key: own.get(key) for key in METADATA_SHOWN},
        "model_digest": own.get("network_sha256"),
        "created_at": metadata.utc_time_created,
        "params": {p.name: str(p.dtype.name) for p in schema.params} if schema else {},
        "scores": test_scores(files, own),
        "notice": DISCLAIMER,
    }


def test_scores(files: ModelFiles, metadata: dict[str, Any]) -> dict[str, Any] | None:
    """Return the scores on the test split, with their intervals, or None if none came along.

    Evaluation puts them on the registered version as `scores.<name>` tags; a `scores.json` in the
    model's folder is read for models that were copied out of a registry.
    """
    tagged = {
        name.removeprefix("scores."): from_json(text)
        for name, text in files.tags.items()
        if name.startswith("scores.")
    }
    if tagged:
        return tagged
    file = files.folder / "scores.json"
    if file.is_file():
        scores: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return scores
    return metadata.get("scores")


def from_json(text: str) -> Any:
    """Return what a tag holds: JSON where it is JSON, else its text."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
