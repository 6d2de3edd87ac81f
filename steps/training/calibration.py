"""Calibrated probabilities and an operating threshold, from scans that the head did not see.

Both are fitted on the answers of heads that were cross-validated by group over the training and
validation scans: every scan is in a validation group once per repeat. One validation split alone
holds too few scans of the rarer class to place a threshold (docs/adr/0052-calibration.md).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from sklearn.metrics import brier_score_loss, log_loss

from model.decision import disease_probability, healthy_index, probabilities
from steps.training.bootstrap import group_weights, interval, weighted_share
from steps.training.cross_validation import held_out_logits

BINS = 10  # of confidence, equally wide, as in reliability diagrams since Guo et al. 2017
REPEATS = 5
# A strong L2 penalty keeps logits small, hence the low end; beyond these bounds, too few held-out
# mistakes are left to learn from.
TEMPERATURES = (0.003, 10.0)
Labels = NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What the artefact carries, and how it came about."""

    temperature: float
    threshold: float | None  # on the probability of disease; None: the likeliest class
    report: dict[str, Any]  # JSON-ready


def calibrate(
    vectors: NDArray[np.float32],
    labels: Labels,
    groups: NDArray[np.str_],
    classes: Sequence[str],
    *,
    l2: float,
    balanced: bool,
    sensitivity: float,
    seed: int,
    shrinkage: float = 1.0,
) -> Calibration:
    """Fit the temperature and choose the threshold on held-out groups.

    Args:
        vectors: (n, 1 + views, features) of the training and validation scans.
        labels: class indices (n,).
        groups: of each scan (n,).
        classes: names in the order of the indices.
        l2: of the head, see steps.training.head.
        balanced: likewise.
        sensitivity: share of diseased held-out scans that the threshold must call diseased, 0-1.
        seed: of the folds.
        shrinkage: of the covariance within classes, see steps.training.head.

    Returns:
        Temperature 1 and no threshold where the groups are too few to hold any out.
    """
    repeats = [
        held_out_logits(
            vectors,
            labels,
            groups,
            len(classes),
            l2=l2,
            balanced=balanced,
            seed=seed + repeat,
            shrinkage=shrinkage,
        )
        for repeat in range(REPEATS)
    ]
    logits, actual = np.concatenate(repeats), np.tile(labels, REPEATS)
    known = np.isfinite(logits).all(axis=1)
    if not known.all():
        unknown = {"scans": 0, "temperature": 1.0, "threshold": None}
        return Calibration(1.0, None, unknown | {"stated_sensitivity": sensitivity})
    temperature = fit_temperature(logits, actual)
    report = {
        "scans": len(labels),
        "groups": len(np.unique(groups)),
        "repeats": REPEATS,
        "temperature": temperature,
        "before": calibration_scores(probabilities(logits), actual),
        "after": calibration_scores(probabilities(logits, temperature), actual),
    }
    threshold = None
    if healthy_index(classes) is not None:
        p = disease_probability(probabilities(logits, temperature), classes)
        sick = actual != healthy_index(classes)
        threshold = threshold_for_sensitivity(p, sick, sensitivity)
        report |= operating_point(p >= threshold, sick, np.tile(groups, REPEATS), seed)
        report |= {"threshold_spread": threshold_spread(p, sick, groups, sensitivity, seed)}
    report |= {"threshold": threshold, "stated_sensitivity": sensitivity}
    return Calibration(temperature, threshold, report)


def fit_temperature(logits: NDArray[np.float32], actual: Labels) -> float:
    """Find the temperature with the least cross-entropy (Guo et al. 2017, section 4.2).

    Args:
        logits: (n, classes) of scans that the head did not see.
        actual: class indices (n,).

    Returns:
        Above 1 when the logits are too sure of themselves; within TEMPERATURES.
    """
    every = list(range(logits.shape[1]))
    low, high = np.log(TEMPERATURES)
    found = minimize_scalar(
        lambda t: log_loss(actual, probabilities(logits, float(np.exp(t))), labels=every),
        bounds=(low, high),
        method="bounded",
    )
    return float(np.exp(found.x))


def expected_calibration_error(p: NDArray[np.float64], actual: Labels) -> float:
    """Average the gap between confidence and accuracy over bins (Guo et al. 2017, eq. 3)."""
    rows = reliability(p, actual)
    return sum(row["n"] * abs(row["accuracy"] - row["confidence"]) for row in rows) / len(actual)


def reliability(p: NDArray[np.float64], actual: Labels) -> list[dict[str, float]]:
    """Compare confidence with accuracy, a row per bin that is not empty.

    Args:
        p: probabilities (n, classes).
        actual: class indices (n,).

    Returns:
        Rows of `confidence` (mean probability of the likeliest class), `accuracy` and `n`.
    """
    confidence, right = p.max(axis=1), p.argmax(axis=1) == actual
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return [
        {
            "confidence": float(confidence[bins == b].mean()),
            "accuracy": float(right[bins == b].mean()),
            "n": int((bins == b).sum()),
        }
        for b in np.unique(bins)
    ]


def calibration_scores(p: NDArray[np.float64], actual: Labels) -> dict[str, float]:
    """Return `ece`, `brier` (sum over the classes) and `loss` (cross-entropy, nats)."""
    every = list(range(p.shape[1]))
    return {
        "ece": expected_calibration_error(p, actual),
        "brier": float(brier_score_loss(actual, p, labels=every, scale_by_half=False)),
        "loss": float(log_loss(actual, p, labels=every)),
    }


def without_temperature(p: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Return what probabilities (n, classes) were before their logits were divided."""
    logits = np.log(np.maximum(p, 1e-300)) * temperature
    return probabilities(logits.astype(np.float32))


def threshold_for_sensitivity(
    p: NDArray[np.float64], sick: NDArray[np.bool_], sensitivity: float
) -> float:
    """Find the highest threshold that still calls enough of the diseased scans diseased.

    Args:
        p: probability of disease (n,).
        sick: whether the scan is diseased (n,).
        sensitivity: the share to reach, 0-1.

    Returns:
        A threshold for `p >= threshold`, rounded down to 4 decimals so that it can be typed.
    """
    ranked = np.sort(p[sick])[::-1]
    needed = max(1, int(np.ceil(sensitivity * len(ranked) - 1e-9)))
    return float(np.floor(ranked[needed - 1] * 1e4) / 1e4)


def held_out_threshold(
    vectors: NDArray[np.float32],
    labels: Labels,
    groups: NDArray[np.str_],
    classes: Sequence[str],
    *,
    l2: float,
    balanced: bool,
    sensitivity: float,
    seed: int,
    shrinkage: float = 1.0,
) -> float | None:
    """Choose the threshold as `calibrate` does, on one shuffle: for cross-validating the choice.

    Args:
        vectors: and the rest: see `calibrate`; of the scans of one training fold.

    Returns:
        On the probability of disease at temperature 1 (a temperature would move both alike); None
        where there is no healthy class or the groups are too few to hold any out.
    """
    healthy = healthy_index(classes)
    logits = held_out_logits(
        vectors, labels, groups, len(classes),
        l2=l2, balanced=balanced, seed=seed, shrinkage=shrinkage,
    )  # fmt: skip
    if healthy is None or not np.isfinite(logits).all():
        return None
    p = disease_probability(probabilities(logits), classes)
    return threshold_for_sensitivity(p, labels != healthy, sensitivity)


def operating_point(
    called_sick: NDArray[np.bool_], sick: NDArray[np.bool_], groups: NDArray[np.str_], seed: int
) -> dict[str, Any]:
    """Return sensitivity and specificity of held-out scans, 95 % intervals by group."""
    weights = group_weights(groups, seed)
    result = {}
    for name, of, right in (
        ("sensitivity", sick, called_sick),
        ("specificity", ~sick, ~called_sick),
    ):
        draws = weighted_share(weights[:, of], right[of])
        result[name] = {"value": float(right[of].mean()), "ci95": interval(draws)}
    return result


def threshold_spread(
    p: NDArray[np.float64],
    sick: NDArray[np.bool_],
    groups: NDArray[np.str_],
    sensitivity: float,
    seed: int,
) -> list[float] | None:
    """Return the 95 % interval of the threshold itself when other groups had come, by bootstrap."""
    weights = group_weights(np.tile(groups, len(p) // len(groups)), seed)[:, sick]
    order = np.argsort(-p[sick])
    reached = weights[:, order].cumsum(axis=1)
    first = (reached >= sensitivity * reached[:, -1:]).argmax(axis=1)
    return interval(p[sick][order][first])
