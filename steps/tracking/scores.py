"""The headline metrics in a run, linked to the model and to the scans they are measured on."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Metric

from steps.headline_metrics import headline_metrics
from steps.tracking.datasets import split_dataset


def log_headline(
    scores: Mapping[str, Any], data: Path, model: str | None, *, again: bool = False
) -> None:
    """Log the headline metrics to the active run, as the model's on the test split.

    Args:
        scores: contents of scores.json.
        data: what data_ingestion wrote.
        model: id of the LoggedModel, or None.
        again: whether another run logged them: the model then gets those that it lacks only.
    """
    test, values = split_dataset(data, "test"), headline_metrics(scores)
    mlflow.log_input(test, context="testing")
    phantom = str(scores["phantom"]).lower()
    mlflow.set_tags({"phantom": phantom, "model_digest": scores["model_digest"]})
    if again and model and _has(model, test.digest, values):
        run, now_ms = mlflow.active_run(), int(time.time() * 1000)
        metrics = [Metric(name, value, now_ms, 0) for name, value in values.items()]
        MlflowClient().log_batch(run.info.run_id, metrics=metrics)
    else:
        mlflow.log_metrics(values, model_id=model, dataset=test)


def _has(model: str, dataset_digest: str, values: Mapping[str, float]) -> bool:
    """Tell whether a LoggedModel has these metrics on a data set."""
    known = MlflowClient().get_logged_model(model).metrics or []
    return set(values) <= {one.key for one in known if one.dataset_digest == dataset_digest}
