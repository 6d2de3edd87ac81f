"""What the test split says about the stored threshold and about prediction sets."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.artefact import Card
from steps.training.calibration import coverage
from steps.training.record import TrainingRecord


def sensitivity_floor(
    sensitivity: dict[str, Any] | None, record: TrainingRecord, card: Card
) -> dict[str, Any] | None:
    """Compare the test split's sensitivity with the stated one.

    Args:
        sensitivity: of the test split, see `steps.training.proportions.proportion`.
        record: of the training.
        card: of the model.

    Returns:
        `stated`; `value`, `ci95`, `upper_bound` (its end) and `n` of the test split; `missed`,
        whether the value lies below the stated one; `surely_missed`, whether the whole interval
        does; `held_out`, how sure training was (see `steps.training.threshold.Floor`). None
        without a stored threshold or without diseased test scans.
    """
    if card.threshold is None or sensitivity is None or not sensitivity["n"]:
        return None
    stated = record.sensitivity
    return {
        "stated": stated,
        "value": sensitivity["value"],
        "ci95": sensitivity["ci95"],
        "upper_bound": sensitivity["ci95"][1],
        "n": sensitivity["n"],
        "missed": bool(sensitivity["value"] < stated),
        "surely_missed": bool(sensitivity["ci95"][1] < stated),
        "held_out": record.calibration.get("sensitivity_floor"),
    }


def undecided_section(
    p: NDArray[np.float64], actual: NDArray[np.int64], card: Card
) -> dict[str, Any] | None:
    """Describe the prediction sets of the test scans.

    Args:
        p: the pyfunc's probabilities (n, classes).
        actual: class indices (n,).
        card: of the model.

    Returns:
        `error_rate`, and what `steps.training.calibration.coverage` returns; None for a model that
        never says undecided.
    """
    if card.conformal is None:
        return None
    sets = card.conformal.prediction_sets(p)
    return {"error_rate": card.conformal.error_rate} | coverage(sets, actual, card.classes)
