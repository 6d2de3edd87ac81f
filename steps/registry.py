"""The model registry as promotion sees it: one registered model, its versions, stages and aliases."""

from __future__ import annotations

import getpass
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import mlflow
import requests
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import read_mlflow_creds

PROBE_TIMEOUT_S = 10
PAGE = 1000  # versions asked for in one request

AUTHENTICATION_CODES = {"UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"}
UNREACHABLE = ("Connection refused", "Max retries exceeded", "timed out", "NameResolution",
               "Connection aborted", "RemoteDisconnected", "Connection reset")  # fmt: skip


class RegistryError(ValueError):
    """The registry cannot be used as asked; the message says why and what to do."""


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

    def in_stage(self, stage: str) -> list[int]:
        """Return the numbers of the versions in `stage`, ascending."""
        return sorted(n for n, version in self.versions.items() if version.stage == stage)


class Registry:
    """Reads and writes one registered model with the caller's MLflow settings."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.client = MlflowClient()

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
            warnings.filterwarnings("ignore", r"[\s\S]*transition_model_version_stage", FutureWarning)
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


def no_versions(name: str) -> str:
    """Return the sentence for a registered model that has no versions yet."""
    return (
        f"The registered model '{name}' has no versions at {registry_uri()}; run the evaluation "
        "with register: true first (mlflow run . -P register=true)."
    )


def registry_uri() -> str:
    """Return where the registry is, without a password that a database URI may carry."""
    uri: str = mlflow.get_registry_uri()
    scheme, separator, rest = uri.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}" if separator else uri


def person() -> str:
    """Return who is asking: the tracking server's user, else the operating system's."""
    name = os.environ.get("MLFLOW_TRACKING_USERNAME") or read_mlflow_creds().username
    return name or getpass.getuser()


def check_registry() -> None:
    """Find out quickly whether the registry is there, so that MLflow does not retry for minutes.

    Raises:
        RegistryError: no answer from the server, or no database file.
    """
    uri: str = mlflow.get_registry_uri()
    if uri.startswith("sqlite:///") and not Path(unquote(uri.removeprefix("sqlite:///"))).exists():
        raise RegistryError(
            f"There is no registry at {uri}; run the evaluation with register: true first, or set "
            "MLFLOW_TRACKING_URI to the server that has one."
        )
    if not uri.startswith(("http://", "https://")):
        return
    insecure = os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1")
    try:
        requests.get(f"{uri.rstrip('/')}/health", timeout=PROBE_TIMEOUT_S, verify=not insecure)
    except requests.RequestException as error:
        raise RegistryError(_unreachable()) from error


def _unreachable() -> str:
    return (
        f"The MLflow server at {registry_uri()} does not answer; check MLFLOW_TRACKING_URI, the "
        "network and that the server runs, then run the same command again."
    )


@contextmanager
def registry_errors(name: str) -> Iterator[None]:
    """Turn what MLflow raises inside the block into a RegistryError of one sentence."""
    try:
        yield
    except MlflowException as error:
        raise RegistryError(sentence(error, name)) from error
    except requests.RequestException as error:
        raise RegistryError(_unreachable()) from error


def sentence(error: MlflowException, name: str) -> str:
    """Return what went wrong and what to do, in one sentence."""
    code, text = str(error.error_code), str(error)
    if code in AUTHENTICATION_CODES or "error code 401" in text:
        return (
            f"The MLflow server at {registry_uri()} refused user '{person()}'; check "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."
        )
    if code == "PERMISSION_DENIED" or "error code 403" in text:
        return (
            f"User '{person()}' may not do this at {registry_uri()}; promotion needs MANAGE on the "
            f"registered model '{name}' and EDIT on the experiments of its runs (docs/registry.md)."
        )
    if any(sign in text for sign in UNREACHABLE):
        return _unreachable()
    first_line: Any = next(iter(text.splitlines()), code)
    return f"MLflow at {registry_uri()} answered: {str(first_line)[:300]}"
