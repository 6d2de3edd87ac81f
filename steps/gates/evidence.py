"""A version's artefacts, fetched for its gates, and the gates' results, stored with the version."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import mlflow
from mlflow.models import Model

from steps.gates.comparison import registered_scans
from steps.gates.staging import Gate, StoredModel
from steps.registry.client import Registry, Version
from steps.registry.errors import RegistryError, sentence
from steps.registry.register import MANIFEST_ARTIFACT

TAG_LENGTH = 400  # characters of a gate's sentence that are kept in tags


def download_version(registry: Registry, version: Version, folder: Path) -> StoredModel:
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
    with artefact_errors(registry, f"The artefacts of version {version.number} cannot be read"):
        model = Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(folder)))
        metadata = Model.load(str(model)).metadata or {}
        manifest = mlflow.artifacts.download_artifacts(
            run_id=version.run_id, artifact_path=MANIFEST_ARTIFACT, dst_path=str(folder)
        )
    return StoredModel(version.number, model, metadata, registered_scans(Path(manifest)))


@contextmanager
def artefact_errors(registry: Registry, what: str) -> Iterator[None]:
    """Turn what an artefact store raises into a RegistryError that begins with `what`."""
    try:
        yield
    except Exception as error:  # each kind of store (S3, a folder, HTTP) raises its own
        raise RegistryError(f"{what}: {sentence(error, registry.name)}") from error


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
        with artefact_errors(registry, "The gates' results cannot be stored, so nothing was moved"):
            registry.client.log_dict(version.run_id, report, artifact)
        registry.set_version_tag(version.number, f"gates.{to}.artifact", artifact)
    for gate in gates:
        described = f"{gate.result}: {gate.sentence}"[:TAG_LENGTH]
        registry.set_version_tag(version.number, f"gates.{to}.{gate.name}", described)
    passed = all(gate.passed for gate in gates)
    registry.set_version_tag(version.number, f"gates.{to}", "passed" if passed else "failed")
