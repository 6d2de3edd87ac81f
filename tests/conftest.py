"""Fixtures that more than one folder of tests uses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.model.tiny import Tiny, run_tiny_pipeline
from tests.s3_server import S3Server, running_s3_server
from tests.stand_in_model import save_stand_in_model


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server for the whole session; each test makes its own bucket."""
    with running_s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="session")
def stand_in_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow model folder whose rows look like the real pyfunc's and cost nothing."""
    return save_stand_in_model(tmp_path_factory.mktemp("stand_in"))


@pytest.fixture(scope="session")
def tiny_pipeline(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """Phantoms through the first three stages, 32 x 32 px, random weights; not to be changed."""
    return run_tiny_pipeline(tmp_path_factory.mktemp("tiny"))
