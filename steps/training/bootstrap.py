"""Intervals that know that near-duplicates are one observation: bootstrap over groups."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

DRAWS = 1000
NO_WIDTH = 1e-9  # of an interval whose draws all agree, but for rounding


def group_weights(groups: NDArray[np.str_] | NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """Draw groups with replacement, all scans of a group together.

    Cluster bootstrap (Field & Welsh 2007, "Bootstrapping clustered data").

    Args:
        groups: of each scan (n,).
        seed: of the draws.

    Returns:
        (DRAWS, n): how often each scan occurs in each draw.
    """
    names, member_of = np.unique(groups, return_inverse=True)
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=DRAWS)
    weights: NDArray[np.float64] = counts[:, member_of].astype(np.float64)
    return weights


def weighted_share(
    weights: NDArray[np.float64], right: NDArray[np.float64] | NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the share of what is right in each draw, (draws,); NaN where a draw has no scan."""
    with np.errstate(invalid="ignore"):
        result: NDArray[np.float64] = (weights @ right.astype(np.float64)) / weights.sum(axis=1)
    return result


def weighted_auc(
    weights: NDArray[np.float64], positive: NDArray[np.bool_], score: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the area under the ROC curve in each draw, (draws,); NaN where a class is missing.

    The area is the share of pairs, one scan of each class, that the score ranks rightly (Hanley &
    McNeil 1982); a pair counts as often as its scans were drawn.

    Args:
        weights: (draws, n), of `group_weights`.
        positive: whether the scan is diseased (n,).
        score: of disease (repeats, n); NaN where a repeat did not score the scan.
    """
    sick, healthy = score[:, positive, np.newaxis], score[:, np.newaxis, ~positive]
    both = np.isfinite(sick) & np.isfinite(healthy)
    scored = both.sum(axis=0)
    right = ((sick > healthy) + 0.5 * (sick == healthy)).sum(axis=0) / np.maximum(scored, 1)
    of_sick, of_healthy = weights[:, positive], weights[:, ~positive]
    with np.errstate(invalid="ignore"):
        result: NDArray[np.float64] = ((of_sick @ right) * of_healthy).sum(axis=1) / (
            (of_sick @ (scored > 0).astype(np.float64)) * of_healthy
        ).sum(axis=1)
    return result


def interval(draws: NDArray[np.float64]) -> list[float] | None:
    """Return the 95 % percentile interval of draws; None when too few of them are numbers."""
    known = draws[np.isfinite(draws)]
    if len(known) < len(draws) / 2:
        return None
    low, high = np.quantile(known, [0.025, 0.975])
    return [float(low), float(high)]


def interval_or(
    draws: NDArray[np.float64], closed_form: Callable[[], list[float] | None]
) -> list[float] | None:
    """Return the interval of draws, or a closed form's where the draws all agree.

    Draws of scans that were all answered rightly agree, and so do those of one group: that is no
    certainty about other groups.

    Args:
        draws: as for `interval`.
        closed_form: see `steps.training.closed_forms`, with groups as observations; None where
            there is none.
    """
    found = interval(draws)
    return closed_form() if found and found[1] - found[0] < NO_WIDTH else found
