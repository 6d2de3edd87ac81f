"""The model: resolved to one version, identified by its digest, its files at hand."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from batch.faults import CannotRunError, without_passwords
from batch.locations import path_of
from batch.scratch import remove_stale_scratch, scratch_folder

DIGEST = "model_digest"  # the key in the model's own metadata
SHA256_HEX = re.compile(r"[0-9a-f]{64}")
# Written by MLflow beside the model, different for every download or every time it is saved.
NOT_CONTENT = {"registered_model_meta"}
NOT_CONTENT_OF_MLMODEL = {
    "artifact_path",
    "model_id",
    "model_size_bytes",
    "model_uuid",
    "run_id",
    "utc_time_created",
}


@dataclass(frozen=True)
class PinnedModel:
    """One model version: what it is called, what it is, where its files are.

    Attributes:
        uri: `models:/name/version`, or the run's or folder's URI.
        family: what stays the same from version to version: `models:/name`, or `uri` itself.
        digest: the model's identity, the same wherever and whenever it was saved.
        folder: its files.
    """

    uri: str
    family: str
    digest: str
    folder: Path
    name: str | None = None
    version: str | None = None


@contextlib.contextmanager
def quiet_mlflow() -> Iterator[None]:
    """Keep MLflow's deprecation notices and chatter away from the user."""
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    # Recorded as well as ignored: MLflow puts filters of its own before ours.
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def pinned_model(model_uri: str) -> Iterator[PinnedModel]:
    """Resolve a model URI once and have its files at hand until the block ends.

    A stage or an alias may move while the job runs; the version does not.

    Raises:
        CannotRunError: there is no such model, or it cannot be fetched.
    """
    remove_stale_scratch()
    with contextlib.ExitStack() as until_the_end:
        with quiet_mlflow():
            uri, name, version = _resolve(model_uri)
            if uri.startswith("file://"):
                folder = path_of(uri)
            else:
                folder = _fetched(uri, until_the_end.enter_context(scratch_folder("model")))
        family = f"models:/{name}" if name else uri
        yield PinnedModel(uri, family, model_digest(folder), folder, name, version)


def _resolve(model_uri: str) -> tuple[str, str | None, str | None]:
    if "://" not in model_uri and not model_uri.startswith(("models:/", "runs:/")):
        folder = Path(model_uri.removeprefix("file:")).expanduser().resolve()
        if not (folder / "MLmodel").is_file():
            raise CannotRunError(
                f"No model at {folder}: expected an MLflow model folder (with a file MLmodel) or a "
                "URI such as models:/chest-ct/Production. Check --model-uri."
            )
        return folder.as_uri(), None, None
    if not model_uri.startswith("models:/"):
        return model_uri.rstrip("/"), None, None
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from mlflow.store.artifact.utils.models import _parse_model_uri, get_model_name_and_version

    try:
        if _parse_model_uri(model_uri).model_id is not None:
            return model_uri, None, None
        name, version = get_model_name_and_version(MlflowClient(), model_uri)
        MlflowClient().get_model_version(name, version)
    except MlflowException as error:
        raise CannotRunError(_missing(model_uri, error)) from error
    return f"models:/{name}/{version}", name, str(version)


def _fetched(uri: str, scratch: Path) -> Path:
    import mlflow

    try:
        folder = Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(scratch)))
    except Exception as error:  # each artefact store raises its own
        raise CannotRunError(_missing(uri, error)) from error
    if not (folder / "MLmodel").is_file():
        raise CannotRunError(
            f"{uri} is no MLflow model: it has no file MLmodel. Check --model-uri."
        )
    return folder


def _missing(uri: str, error: Exception) -> str:
    detail = without_passwords(" ".join(str(error).split()))[:200].rstrip(".")
    return (
        f"Cannot find or fetch the model {uri} ({detail}). Check --model-uri and "
        "MLFLOW_TRACKING_URI; `mlflow models` and the registry's page list what there is."
    )


def model_digest(folder: Path) -> str:
    """Return the digest that the model carries, else one over its files.

    The model records a SHA-256 over the files that decide an answer when it is saved, as
    `model_digest` in the metadata of its MLmodel file.
    """
    described = _mlmodel(folder)
    recorded = (described.get("metadata") or {}).get(DIGEST)
    if isinstance(recorded, str) and SHA256_HEX.fullmatch(recorded):
        return recorded
    return _digest_of_files(folder, described)


def _mlmodel(folder: Path) -> dict[str, Any]:
    try:
        described = yaml.safe_load((folder / "MLmodel").read_bytes())
    except (OSError, yaml.YAMLError) as error:
        raise CannotRunError(
            f"Cannot read {folder / 'MLmodel'} ({type(error).__name__}). Check --model-uri."
        ) from error
    return described if isinstance(described, dict) else {}


def _digest_of_files(folder: Path, described: dict[str, Any]) -> str:
    """Return the SHA-256 over a model's files: relative names and contents, in sorted order.

    In MLmodel, what MLflow writes anew each time the same model is saved does not count.
    """
    same = {k: v for k, v in described.items() if k not in NOT_CONTENT_OF_MLMODEL}
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in NOT_CONTENT and path.suffix != ".pyc":
            name = path.relative_to(folder).as_posix()
            data = (
                json.dumps(same, sort_keys=True, default=str).encode()
                if name == "MLmodel"
                else path.read_bytes()
            )
            digest.update(name.encode() + b"\0" + hashlib.sha256(data).digest())
    return digest.hexdigest()
