"""The tiny pipeline's pyfunc and scans, for the tests of what it answers."""

from __future__ import annotations

from typing import Any

import mlflow
import pytest

from scans.manifest import read_manifest
from tests.model.tiny import Tiny


@pytest.fixture(scope="module")
def model(tiny_pipeline: Tiny) -> Any:
    return mlflow.pyfunc.load_model(str(tiny_pipeline.model))


@pytest.fixture(scope="module")
def scans(tiny_pipeline: Tiny) -> list[bytes]:
    rows = read_manifest(tiny_pipeline.data)
    return [(tiny_pipeline.data / row.path).read_bytes() for row in rows]
