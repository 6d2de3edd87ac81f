"""A version's artefacts, fetched for its gates, and the gates' results, stored with the version."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from steps.comparison import read_manifest
from steps.gates import Gate, StoredModel
from steps.register import MANIFEST_ARTIFACT
from steps.registry import Registry, Version
from steps.registry_errors import RegistryError, sentence

TAG_LENGTH = 400  # characters of a gate's sentence that are kept in tags


def fetch(registry: Registry, version: Version, folder: Path) -> StoredModel:
    """Download a version's pyfunc and its manifest.

    Args:
        registry: where the version is.
        version: which one.
        folder: an empty folder to put it in.

    Raises:
        RegistryError: the artefacts are not there, or the version has no manifest.
    """
    folder.mkdir(parents=True, exist_ok=True)
    uri = f"models:/{registry.name}/{version.number}"
    try:
        model = Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(folder)))
        metadata = Model.load(str(model)).metadata or {}
    except (MlflowException, OSError) as error:
        raise RegistryError(_not_fetched(registry, version, "the model", error)) from error
    try:
        manifest = mlflow.artifacts.download_artifacts(
            run_id=version.run_id, artifact_path=MANIFEST_ARTIFACT, dst_path=str(folder)
        )
    except (MlflowException, OSError) as error:
        raise RegistryError(_not_fetched(registry, version, MANIFEST_ARTIFACT, error)) from error
    return StoredModel(version.number, model, metadata, read_manifest(Path(manifest)))


def _not_fetched(registry: Registry, version: Version, what: str, error: Exception) -> str:
    told = sentence(error, registry.name) if isinstance(error, MlflowException) else str(error)
    return (
        f"The artefacts of version {version.number} ({what}) could not be fetched, so its gates "
        f"cannot run: {told}"
    )


def store(registry: Registry, version: Version, to: str, gates: Sequence[Gate], when: str) -> None:
    """Store the gates' results with the version: an artefact of its run, and tags.

    Args:
        registry: where the version is.
        version: the version that was tested.
        to: the stage the gates guard.
        gates: their results.
        when: UTC; part of the artefact's name, so that each test keeps its own.
    """
    artifact = f"gates/{to}-{when}.json"
    report = {
        "version": version.number,
        "to": to,
        "when": when,
        "gates": [asdict(gate) | {"result": gate.result} for gate in gates],
    }
    if version.run_id:
        registry.client.log_dict(version.run_id, report, artifact)
        registry.set_version_tag(version.number, f"gates.{to}.artifact", artifact)
    for gate in gates:
        told = f"{gate.result}: {gate.sentence}"[:TAG_LENGTH]
        registry.set_version_tag(version.number, f"gates.{to}.{gate.name}", told)
    passed = all(gate.passed for gate in gates)
    registry.set_version_tag(version.number, f"gates.{to}", "passed" if passed else "failed")
