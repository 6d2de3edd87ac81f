"""Fixtures for the tests of registration and promotion."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest

from tests.steps.promotion_models import save_textures, write_scans


@pytest.fixture(scope="session")
def textures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved pyfunc that is always right on `scans`."""
    return save_textures(tmp_path_factory.mktemp("textures"))


@pytest.fixture(scope="session")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ingested folder of 40 training and 40 test scans."""
    return write_scans(tmp_path_factory.mktemp("scans"))


@pytest.fixture(scope="module")
def local_registry_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An empty SQLite store with the experiment `chest-ct`, whose artefacts lie beside it."""
    folder = tmp_path_factory.mktemp("store")
    uri = f"sqlite:///{folder}/mlflow.db"
    mlflow.MlflowClient(uri).create_experiment("chest-ct", f"file://{folder}/artifacts")
    return uri


@pytest.fixture
def local_registry(local_registry_uri: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The variables of this process lead to `local_registry_uri`."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", local_registry_uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "chest-ct")
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME", raising=False)
    return local_registry_uri
