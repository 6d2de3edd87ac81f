"""The headline metrics in a run, linked to the model and to the scans they are measured on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow

from steps.headline_metrics import headline_metrics
from steps.tracking.datasets import split_dataset


def log_headline(scores: Mapping[str, Any], data: Path, model: str | None) -> None:
    """Log the headline metrics to the active run, as the model's on the test split.

    Args:
        scores: contents of scores.json.
        data: what data_ingestion wrote.
        model: id of the LoggedModel, or None.
    """
    test = split_dataset(data, "test")
    mlflow.log_input(test, context="testing")
    mlflow.log_metrics(headline_metrics(scores), model_id=model, dataset=test)
    mlflow.set_tags({key: scores[key] for key in ("phantom", "model_digest")})
