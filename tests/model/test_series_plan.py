"""What is skipped is known from headers, so that a series can be scored a part at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest

from tests.model.test_series import predict, thin_slices


@pytest.fixture(scope="module")
def model(small_model: Path) -> Any:
    return mlflow.pyfunc.load_model(str(small_model))


def test_parts_that_begin_at_a_scored_slice_skip_what_one_call_skips(model: Any) -> None:
    images = thin_slices()
    found = model.unwrap_python_model().series_plan(images)
    order = np.argsort(found["position_mm"].to_numpy(float), kind="stable")
    starts = [at for at, i in enumerate(order) if not found["skipped"][i]][::3]
    expected = predict(model, images)
    for begin, end in zip(starts, [*starts[1:], len(order)], strict=True):
        part = order[begin:end]
        rows = predict(model, [images[i] for i in part])
        assert rows["skipped"].tolist() == expected["skipped"].iloc[part].tolist()
