"""Servers and scans that several tests of `serve/` use."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.serve.gate import Gate
from tests.serve.server_process import ServerProcess, running_serve
from tests.serve.trial_model import save_trial_model

KEYS = ("first-key-of-the-tests", "second-key-of-the-tests")


def png(brightness: int, size: int = 48) -> bytes:
    """Return a grey PNG with a disc, whose mean brightness follows `brightness` (0 to 255)."""
    y, x = np.mgrid[:size, :size]
    disc = (x - size / 2) ** 2 + (y - size / 2) ** 2 < (size / 3) ** 2
    file = io.BytesIO()
    Image.fromarray((disc * brightness).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """A gate that is open at the latest when the test ends."""
    made = Gate(tmp_path)
    yield made
    made.open()


@pytest.fixture(scope="session")
def trial_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow model folder that waits, fails and explains on request."""
    return save_trial_model(tmp_path_factory.mktemp("trial"))


@pytest.fixture(scope="session")
def trial_server(
    trial_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """A server without keys on loopback, with its usual limits."""
    with running_serve(trial_model, tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="session")
def tight_server(
    trial_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """A server that takes 1 MB, 5 rows, 2 requests at once and 3 seconds."""
    options = ("--max-body-mb", "1", "--max-rows", "5", "--max-in-flight", "2")
    options += ("--max-series-mb", "1", "--max-slices", "8")
    options += ("--max-in-flight-per-client", "2")
    folder = tmp_path_factory.mktemp("tight")
    with running_serve(trial_model, folder, *options, "--request-timeout-s", "3") as server:
        yield server


@pytest.fixture(scope="session")
def keyed_server(
    trial_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """A server with one key from a file and one from the environment, and one allowed origin."""
    folder = tmp_path_factory.mktemp("keyed")
    key_file = folder / "keys"
    key_file.write_text(f"# the ward's\n{KEYS[0]}\n")
    key_file.chmod(0o600)
    options = ("--api-key-file", str(key_file), "--allow-origin", "https://pacs.example")
    env = {"CHEST_CT_API_KEYS": KEYS[1]}
    with running_serve(trial_model, folder, *options, env=env) as server:
        yield server
