"""Intervals of the test split's scores: groups of near-duplicates are drawn, not scans."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.decision import disease_probability, healthy_index
from steps.training.bootstrap import group_weights, interval, weighted_auc, weighted_share


def group_intervals(
    actual: NDArray[np.int64],
    predicted: NDArray[np.int64],
    p: NDArray[np.float64],
    groups: NDArray[np.str_],
    classes: Sequence[str],
) -> dict[str, Any]:
    """Bootstrap the test split by group: what no formula gives for scans that come in groups.

    Args:
        actual: class indices (n,).
        predicted: class indices (n,).
        p: probabilities (n, classes).
        groups: of each scan (n,).
        classes: names in the order of the indices.

    Returns:
        `balanced_accuracy_ci95` and `roc_auc_ci95`, None where unknown.
    """
    weights = group_weights(groups, seed=0)
    return {
        "balanced_accuracy_ci95": balanced_accuracy_interval(weights, actual, predicted),
        "roc_auc_ci95": _auc_interval(weights, actual, p, classes),
    }


def balanced_accuracy_interval(
    weights: NDArray[np.float64], actual: NDArray[np.int64], predicted: NDArray[np.int64]
) -> list[float] | None:
    """Bootstrap the balanced accuracy.

    Args:
        weights: (draws, n), of `steps.training.bootstrap.group_weights`.
        actual: class indices (n,).
        predicted: class indices (n,).

    Returns:
        The 95 % interval; None where too few draws have every class.
    """
    recalls = [
        weighted_share(weights[:, actual == c], predicted[actual == c] == c)
        for c in np.unique(actual)
    ]
    return interval(np.mean(recalls, axis=0))


def _auc_interval(
    weights: NDArray[np.float64],
    actual: NDArray[np.int64],
    p: NDArray[np.float64],
    classes: Sequence[str],
) -> list[float] | None:
    """Bootstrap the area that `steps.metrics.roc_auc` measures: of disease, or one-vs-rest."""
    if len(np.unique(actual)) < len(classes):
        return None
    if len(classes) == 2:
        healthy = healthy_index(classes)
        sick = actual == 1 if healthy is None else actual != healthy
        disease = disease_probability(p, classes)[np.newaxis]
        return interval(weighted_auc(weights, sick, disease))
    areas = [weighted_auc(weights, actual == c, p[:, c][np.newaxis]) for c in range(len(classes))]
    return interval(np.mean(areas, axis=0))
