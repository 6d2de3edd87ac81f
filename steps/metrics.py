"""Scores of predictions: what scores.json says, computed from arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics

from model.decision import disease_probability, healthy_index, healthy_indices
from steps.training.proportions import proportion


def scores(
    actual: NDArray[np.int64],
    predicted: NDArray[np.int64],
    p: NDArray[np.float64],
    classes: Sequence[str],
    healthy: Sequence[str] = (),
) -> dict[str, Any]:
    """Score predictions.

    Args:
        actual: class indices (n,).
        predicted: class indices (n,).
        p: probabilities (n, classes).
        classes: names in the order of the indices.
        healthy: names of those that are no disease, see model.decision.

    Returns:
        JSON-ready: `accuracy` and `loss` (cross-entropy, nats) first; intervals are 95 % Wilson.
        What the data cannot show, such as the AUC of one class, is None.
    """
    every = list(range(len(classes)))
    result: dict[str, Any] = {
        "accuracy": float((actual == predicted).mean()),
        "loss": float(metrics.log_loss(actual, p, labels=every)),
        "n": len(actual),
        "accuracy_ci95": proportion(int((actual == predicted).sum()), len(actual))["ci95"],
        "balanced_accuracy": balanced_accuracy(actual, predicted),
        "roc_auc": roc_auc(actual, p, classes),
        "disease_roc_auc": disease_roc_auc(actual, p, classes, healthy),
        "brier": float(metrics.brier_score_loss(actual, p, labels=every, scale_by_half=False)),
    }
    result |= _disease_scores(actual, predicted, classes, healthy)
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        actual, predicted, labels=every, zero_division=0.0
    )
    result["per_class"] = {
        name: {
            "precision": float(precision[i]),
            "recall": float(recall[i]),
            "f1": float(f1[i]),
            "n": int(support[i]),
            "roc_auc": _auc(actual == i, p[:, i]),
        }
        for i, name in enumerate(classes)
    }
    matrix = metrics.confusion_matrix(actual, predicted, labels=every)
    result["confusion_matrix"] = {
        "classes": list(classes),
        "rows_actual_columns_predicted": matrix.tolist(),
    }
    return result


def balanced_accuracy(
    actual: NDArray[np.int64] | Sequence[str], predicted: NDArray[np.int64] | Sequence[str]
) -> float:
    """Average the recall of the classes that occur, 0-1.

    Args:
        actual: class of each scan (n,), indices or names.
        predicted: the same for the answers; one that is no class of these scans is wrong.
    """
    # balanced_accuracy_score is the same number, with a warning for each answer of another class.
    occurring = np.unique(np.asarray(actual))
    return float(metrics.recall_score(actual, predicted, labels=occurring, average="macro"))


def roc_auc(
    actual: NDArray[np.int64], p: NDArray[np.float64], classes: Sequence[str]
) -> float | None:
    """Return the area under the ROC curve: of disease for two classes, else the mean one-vs-rest.

    None when a class does not occur, or only one does.
    """
    if len(classes) == 2:
        healthy = healthy_index(classes)
        diseased = actual == 1 if healthy is None else actual != healthy
        return _auc(diseased, disease_probability(p, classes))
    areas = [_auc(actual == i, p[:, i]) for i in range(len(classes))]
    return None if None in areas else float(np.mean([a for a in areas if a is not None]))


def disease_roc_auc(
    actual: NDArray[np.int64],
    p: NDArray[np.float64],
    classes: Sequence[str],
    healthy: Sequence[str] = (),
) -> float | None:
    """Return the area under the ROC curve of disease; None without a healthy class.

    Args:
        actual: class indices (n,).
        p: probabilities (n, classes).
        classes: names.
        healthy: names of those that are no disease.
    """
    sound = healthy_indices(classes, healthy)
    if not sound:
        return None
    return _auc(~np.isin(actual, sound), disease_probability(p, classes, healthy))


def _auc(positive: NDArray[np.bool_], score: NDArray[np.float64]) -> float | None:
    if positive.all() or not positive.any():
        return None
    return float(metrics.roc_auc_score(positive, score))


def _disease_scores(
    actual: NDArray[np.int64],
    predicted: NDArray[np.int64],
    classes: Sequence[str],
    healthy: Sequence[str],
) -> dict[str, Any]:
    sound = healthy_indices(classes, healthy)
    if not sound and len(classes) > 2:
        return {"positive": None, "sensitivity": None, "specificity": None}
    negative = sound or [0]
    sick, called_sick = ~np.isin(actual, negative), ~np.isin(predicted, negative)
    return {
        "positive": [name for i, name in enumerate(classes) if i not in negative],
        "sensitivity": proportion(int((sick & called_sick).sum()), int(sick.sum())),
        "specificity": proportion(int((~sick & ~called_sick).sum()), int((~sick).sum())),
    }
