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
from scipy.stats import beta
from sklearn.metrics import brier_score_loss, log_loss

from model.conformal import Conformal, fit_conformal
from model.decision import disease_probability, healthy_indices, probabilities
from steps.metrics import proportion
from steps.training.bootstrap import group_weights, interval, weighted_share
from steps.training.cross_validation import grouped_folds, held_out_logits

BINS = 10  # of confidence, equally wide, as in reliability diagrams since Guo et al. 2017
REPEATS = 5
CONFIDENCE = 0.95  # of the one-sided lower bound of the sensitivity
LIKELIEST = 0.5  # probability of disease above which some disease, all together, is likelier
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
    return Calibration(temperature, threshold, conformal, report)


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


@dataclasses.dataclass(frozen=True)
class Floor:
    """A threshold and how sure it is that the stated sensitivity is kept."""

    threshold: float  # for `p >= threshold`
    lower_bound: float  # of the sensitivity, one-sided, at CONFIDENCE
    reached: bool  # whether that bound is at least the stated sensitivity
    groups: float  # effective number of diseased groups (Kish 1965)


def floor_threshold(
    p: NDArray[np.float64],
    sick: NDArray[np.bool_],
    groups: NDArray[np.str_],
    sensitivity: float,
) -> Floor:
    """Find the highest threshold whose sensitivity is surely at least the stated one.

    Surely: the one-sided lower bound of Clopper & Pearson (1934) at CONFIDENCE, where scans count
    as many as their groups are worth. Too few groups cannot be that sure; then it is the highest
    that reaches the stated share, and `reached` says so. Never above LIKELIEST, where a scan
    whose likeliest class is the disease would be called healthy.

    Args:
        p: probability of disease of held-out scans, repeat after repeat (repeats x n,).
        sick: whether the scan is diseased, likewise.
        groups: of each scan (n,).
        sensitivity: 0-1.
    """
    sizes = np.unique(groups[sick[: len(groups)]], return_counts=True)[1].astype(np.float64)
    worth = float(sizes.sum() ** 2 / (sizes**2).sum())
    ranked = np.sort(p[sick])[::-1]
    bounds = lower_bound(np.arange(1, len(ranked) + 1) / len(ranked), worth)
    sure = bounds >= sensitivity
    if sure.any():
        chosen = float(np.floor(ranked[sure.argmax()] * 1e4) / 1e4)
    else:
        chosen = threshold_for_sensitivity(p, sick, sensitivity)
    threshold = min(chosen, LIKELIEST)
    bound = float(lower_bound(np.array([(p[sick] >= threshold).mean()]), worth)[0])
    return Floor(threshold, bound, bound >= sensitivity, worth)


def lower_bound(shares: NDArray[np.float64], groups: float) -> NDArray[np.float64]:
    """Return the one-sided lower bounds of shares, at CONFIDENCE (Clopper & Pearson 1934)."""
    found = shares * groups
    bounds: NDArray[np.float64] = beta.ppf(1 - CONFIDENCE, found, groups - found + 1)
    return np.where(found > 0, bounds, 0.0)


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
    healthy: Sequence[str] = (),
) -> float | None:
    """Choose the threshold as `calibrate` does, on one shuffle: for cross-validating the choice.

    Args:
        vectors: and the rest: see `calibrate`; of the scans of one training fold.

    Returns:
        On the probability of disease at temperature 1 (a temperature would move both alike); None
        where there is no healthy class or the groups are too few to hold any out.
    """
    sound = healthy_indices(classes, healthy)
    logits = held_out_logits(
        vectors, labels, groups, len(classes),
        l2=l2, balanced=balanced, seed=seed, shrinkage=shrinkage,
    )  # fmt: skip
    if not sound or not np.isfinite(logits).all():
        return None
    p = disease_probability(probabilities(logits), classes, healthy)
    return floor_threshold(p, ~np.isin(labels, sound), groups, sensitivity).threshold


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
