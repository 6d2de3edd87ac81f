"""Fixtures for the tests of registration and promotion."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace

import mlflow
import pytest

from tests.fork_server import ForkServer
from tests.session import Shared
from tests.steps.promotion_models import save_textures, write_scans


@pytest.fixture(scope="session")
def textures(shared: Shared) -> Path:
    """A saved pyfunc that is always right on `scans`; not to be changed."""
    return shared.once("textures", save_textures) / "saved"


@pytest.fixture(scope="session")
def scans(shared: Shared) -> Path:
    """An ingested folder of 40 training and 40 test scans; not to be changed."""
    return shared.once("textured-scans", write_scans)


@pytest.fixture
def quick_gates(fork_server: ForkServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gates' clean processes are forked from one that has MLflow loaded."""
    monkeypatch.setattr(
        "steps.gates.clean_process.subprocess",
        SimpleNamespace(run=fork_server.run_clean, TimeoutExpired=subprocess.TimeoutExpired),
    )


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
