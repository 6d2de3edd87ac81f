"""The operating threshold: where a scan is called diseased, and how sure its sensitivity is.

Chosen on answers about held-out groups, see calibration.py (docs/adr/0052-calibration.md).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from model.decision import disease_probability, healthy_indices, probabilities
from steps.training.bootstrap import group_weights, interval, interval_or, weighted_share
from steps.training.closed_forms import share_interval
from steps.training.cross_validation import held_out_logits

CONFIDENCE = 0.95  # of the one-sided lower bound of the sensitivity
LIKELIEST = 0.5  # probability of disease above which some disease, all together, is likelier

Labels = NDArray[np.int64]


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
        share, n = float(right[of].mean()), len(np.unique(groups[of]))
        ci95 = interval_or(draws, partial(share_interval, share, n))
        result[name] = {"value": share, "ci95": ci95}
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
