"""The dozen of scores.json's numbers that MLflow and DVC show by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Where in scores.json each of the numbers lies that MLflow shows by name.
HEADLINE = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced_accuracy",
    "roc_auc": "roc_auc",
    "sensitivity": "sensitivity.value",
    "specificity": "specificity.value",
    "loss": "loss",
    "brier": "brier",
    "ece": "calibration.test.after.ece",
    "undecided": "undecided.undecided.value",
    "non_scans_flagged": "out_of_domain.detected",
    "grouped_cv": "protocol.protocols.grouped.model_at_threshold.balanced_accuracy.mean",
    "worst_stress": "stress.worst.balanced_accuracy",
}
# Besides, where series are known.
SERIES = {
    "series_roc_auc": "series.series.roc_auc.value",
    "series_balanced_accuracy": "series.series.balanced_accuracy.value",
}
# Those of a line of `dvc metrics show`, which is to fit a screen.
FEW = ("balanced_accuracy", "roc_auc", "sensitivity", "specificity", "grouped_cv")


def headline_metrics(result: Mapping[str, Any]) -> dict[str, float]:
    """Return the dozen numbers that say most, by the name of HEADLINE and SERIES.

    Args:
        result: contents of scores.json. What it does not have, or has as None, is left out.
    """
    found = {name: at(result, path) for name, path in (HEADLINE | SERIES).items()}
    return {name: float(value) for name, value in found.items() if value is not None}


def at(result: Mapping[str, Any], path: str) -> Any:
    """Return what lies at a path such as `sensitivity.value`; None where nothing does."""
    value: Any = result
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
