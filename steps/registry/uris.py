"""From a `models:/` URI to the version that it names now."""

from __future__ import annotations

from dataclasses import dataclass

import mlflow

from steps.errors import StageError


@dataclass(frozen=True)
class ModelVersion:
    """A version in the registry."""

    name: str
    number: int
    run_id: str | None


def registered_version(uri: str) -> ModelVersion | None:
    """Return the version that a `models:/` URI names now; None for another kind of URI.

    Args:
        uri: `models:/name/3`, `models:/name/Production`, `models:/name/latest` or
            `models:/name@alias`.

    Raises:
        StageError: no version is in that stage.
    """
    if not uri.startswith("models:/"):
        return None
    client = mlflow.MlflowClient()
    name, _, stage = uri.removeprefix("models:/").rpartition("/")
    if "@" in uri:
        name, _, alias = uri.removeprefix("models:/").partition("@")
        found = client.get_model_version_by_alias(name, alias)
    elif stage.isdecimal():
        found = client.get_model_version(name, stage)
    else:
        held = [
            version
            for version in client.search_model_versions(f"name='{name}'")
            if stage == "latest" or (version.current_stage or "None").lower() == stage.lower()
        ]
        if not held:
            raise StageError(f"No version of {name or uri} is in {stage}. Expected one, for {uri}.")
        found = max(held, key=lambda version: int(version.version))
    return ModelVersion(found.name, int(found.version), found.run_id or None)
