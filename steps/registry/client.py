"""One registered model as promotion sees it: its versions, stages, aliases and tags."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from steps.registry.errors import RegistryError, no_versions
from steps.tracking import check_tracking_server

PAGE = 1000  # versions asked for in one request
TRIAL = "Trial"  # where phantom models are tried: an alias beside the stages
TRIAL_ALIAS = "trial"


@dataclass(frozen=True)
class Version:
    """One version of the registered model."""

    number: int
    stage: str
    run_id: str | None
    tags: dict[str, str]
    updated_ms: int  # last change of the version, milliseconds since 1970


@dataclass(frozen=True)
class Snapshot:
    """What the registry holds for one registered model at one moment."""

    versions: dict[int, Version]
    aliases: dict[str, int]
    tags: dict[str, str]

    def is_at(self, version: int, place: str) -> bool:
        """Return whether a version is in a stage, or has the alias `trial` for TRIAL."""
        if place == TRIAL:
            return self.aliases.get(TRIAL_ALIAS) == version
        return version in self.versions and self.versions[version].stage == place

    def in_stage(self, stage: str) -> list[int]:
        """Return the numbers of the versions in `stage`, ascending."""
        return sorted(n for n, version in self.versions.items() if version.stage == stage)


class Registry:
    """Reads and writes one registered model with the caller's MLflow settings."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.client = MlflowClient()

    def check_permission(self) -> None:
        """Fail now if the caller may not move versions, rather than half-way.

        Removing an alias needs the most (MANAGE, on a server with basic auth), and removing one
        that does not exist changes nothing.
        """
        self.drop_alias("no-such-alias")

    def read(self) -> Snapshot:
        """Return the present versions, aliases and tags.

        Raises:
            RegistryError: there is no such registered model.
        """
        try:
            model = self.client.get_registered_model(self.name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            raise RegistryError(no_versions(self.name)) from error
        versions = {int(v.version): _version(v) for v in self._search()}
        aliases = {alias: int(version) for alias, version in model.aliases.items()}
        return Snapshot(versions, aliases, dict(model.tags))

    def _search(self) -> Iterator[ModelVersion]:
        token: str | None = None
        while True:
            page = self.client.search_model_versions(
                f"name='{self.name}'", max_results=PAGE, page_token=token
            )
            yield from page
            token = page.token
            if not token:
                return

    def set_stage(self, version: int, stage: str) -> None:
        """Move a version to `stage`; whatever was in Staging or Production there is archived."""
        with warnings.catch_warnings():
            # MLflow marks its stage API as deprecated; docs/adr/0040 says why it is used.
            warnings.filterwarnings(
                "ignore", r"[\s\S]*transition_model_version_stage", FutureWarning
            )
            self.client.transition_model_version_stage(
                self.name,
                str(version),
                stage,
                archive_existing_versions=stage in ("Staging", "Production"),
            )

    def set_alias(self, alias: str, version: int) -> None:
        """Point `alias` at a version."""
        self.client.set_registered_model_alias(self.name, alias, str(version))

    def drop_alias(self, alias: str) -> None:
        """Remove `alias`; nothing happens where there is none."""
        try:
            self.client.delete_registered_model_alias(self.name, alias)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise

    def set_tag(self, key: str, value: str) -> None:
        """Set a tag of the registered model."""
        self.client.set_registered_model_tag(self.name, key, value)

    def drop_tag(self, key: str) -> None:
        """Remove a tag of the registered model; nothing happens where there is none."""
        try:
            self.client.delete_registered_model_tag(self.name, key)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise

    def set_version_tag(self, version: int, key: str, value: str) -> None:
        """Set a tag of one version."""
        self.client.set_model_version_tag(self.name, str(version), key, value)


def _version(found: ModelVersion) -> Version:
    return Version(
        number=int(found.version),
        stage=found.current_stage or "None",
        run_id=found.run_id or None,
        tags=dict(found.tags),
        updated_ms=int(found.last_updated_timestamp or 0),
    )


def check_registry() -> None:
    """Find out quickly whether the registry is there, so that MLflow does not retry for minutes.

    Raises:
        RegistryError: there is no database file.
        StageError: the server does not answer or refuses the credentials.
    """
    uri: str = mlflow.get_registry_uri()
    if uri.startswith("sqlite:///") and not Path(unquote(uri.removeprefix("sqlite:///"))).exists():
        raise RegistryError(
            f"There is no registry at {uri}; run the evaluation with register: true first, or set "
            "MLFLOW_TRACKING_URI to the server that has one."
        )
    check_tracking_server()
