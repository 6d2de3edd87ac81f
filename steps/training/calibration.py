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

from model.conformal import Conformal, fit_conformal
from model.decision import disease_probability, healthy_indices, probabilities
from steps.training.cross_validation import grouped_folds, held_out_logits
from steps.training.proportions import proportion
from steps.training.threshold import floor_threshold, operating_point, threshold_spread

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
    conformal: Conformal | None  # when a scan is undecided; None where no group could be held out
    report: dict[str, Any]  # JSON-ready
    held_out: NDArray[np.float64] | None = None  # probabilities (n, classes), calibrated


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
    undecided_error_rate: float = 0.05,
    healthy: Sequence[str] = (),
) -> Calibration:
    """Fit the temperature and choose the threshold on held-out groups.

    Args:
        vectors: (n, 1 + views, features) of the training and validation scans.
        labels: class indices (n,).
        groups: of each scan (n,).
        classes: names in the order of the indices.
        l2: of the head, see steps.training.head.
        balanced: likewise.
        sensitivity: share of diseased scans that the threshold is surely to call diseased, 0-1.
        seed: of the folds.
        shrinkage: of the covariance within classes, see steps.training.head.
        undecided_error_rate: share of each class that prediction sets may miss, 0-1.
        healthy: names of the classes that are no disease, see model.decision.

    Returns:
        Temperature 1, no threshold and no prediction sets where the groups are too few.
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
        return Calibration(1.0, None, None, unknown | {"stated_sensitivity": sensitivity})
    temperature = fit_temperature(logits, actual)
    report = {
        "scans": len(labels),
        "groups": len(np.unique(groups)),
        "repeats": REPEATS,
        "temperature": temperature,
        "before": calibration_scores(probabilities(logits), actual),
        "after": calibration_scores(probabilities(logits, temperature), actual),
    }
    mean_logits: NDArray[np.float32] = np.stack(repeats).mean(axis=0)
    one_answer = probabilities(mean_logits, temperature)
    conformal = fit_conformal(one_answer, labels, undecided_error_rate)
    report["undecided"] = held_out_coverage(
        one_answer, labels, groups, classes, undecided_error_rate, seed
    )
    threshold = None
    sound = healthy_indices(classes, healthy)
    if sound:
        p = disease_probability(probabilities(logits, temperature), classes, healthy)
        sick = ~np.isin(actual, sound)
        floor = floor_threshold(p, sick, groups, sensitivity)
        threshold = floor.threshold
        report |= operating_point(p >= threshold, sick, np.tile(groups, REPEATS), seed)
        share = float((p[sick] >= threshold).mean())
        report["threshold_spread"] = threshold_spread(p, sick, groups, share, seed)
        report["sensitivity_floor"] = dataclasses.asdict(floor)
    report |= {"threshold": threshold, "stated_sensitivity": sensitivity}
    return Calibration(temperature, threshold, conformal, report, one_answer)


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


def held_out_coverage(
    p: NDArray[np.float64],
    labels: Labels,
    groups: NDArray[np.str_],
    classes: Sequence[str],
    error_rate: float,
    seed: int,
) -> dict[str, Any] | None:
    """Measure prediction sets on groups that their quantiles were not chosen on.

    Args:
        p: held-out probabilities (n, classes).
        labels: class indices (n,).
        groups: of each scan (n,).
        classes: names in the order of the indices.
        error_rate: of the sets.
        seed: of the folds.

    Returns:
        See `coverage`; None where the groups are too few.
    """
    sets = np.zeros(p.shape, dtype=bool)
    done = np.zeros(len(p), dtype=bool)
    for fitted, held_out in grouped_folds(labels, groups, seed):
        found = fit_conformal(p[fitted], labels[fitted], error_rate)
        sets[held_out], done[held_out] = found.prediction_sets(p[held_out]), True
    if not done.any():
        return None
    return {"error_rate": error_rate} | coverage(sets[done], labels[done], classes)


def coverage(sets: NDArray[np.bool_], actual: Labels, classes: Sequence[str]) -> dict[str, Any]:
    """Describe prediction sets (n, classes) of scans whose classes (n,) are known.

    Returns:
        `undecided`: share of sets that are not exactly one class, with its interval; `coverage`:
        per class that occurs, the share of its scans whose set holds it.
    """
    undecided = sets.sum(axis=1) != 1
    covered = sets[np.arange(len(actual)), actual]
    return {
        "undecided": proportion(int(undecided.sum()), len(undecided)),
        "coverage": {
            classes[c]: proportion(int(covered[actual == c].sum()), int((actual == c).sum()))
            for c in np.unique(actual)
        },
    }
