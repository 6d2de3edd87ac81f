"""Intervals of the test split's scores: groups of near-duplicates are drawn, not scans."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.decision import disease_probability, healthy_index
from steps.training.bootstrap import group_weights, interval_or, weighted_auc, weighted_share
from steps.training.closed_forms import area_interval, mean_interval, share_interval


@dataclasses.dataclass(frozen=True)
class GroupedShare:
    """A share of scans, and what it is in each draw of their groups."""

    value: float  # 0-1
    draws: NDArray[np.float64]  # (draws,)
    groups: int

    @classmethod
    def of(
        cls,
        right: NDArray[np.float64] | NDArray[np.bool_],
        weights: NDArray[np.float64],
        groups: NDArray[np.str_],
    ) -> GroupedShare:
        """Measure how many of some scans are right.

        Args:
            right: of each scan, or how often of 1 where it was scored several times (n,).
            weights: of `steps.training.bootstrap.group_weights`, of these scans (draws, n).
            groups: of each scan (n,).
        """
        draws = weighted_share(weights, right)
        return cls(float(right.mean()), draws, len(np.unique(groups)))

    def closed_form(self) -> list[float]:
        """Return Wilson's interval of as many observations as there are groups."""
        return share_interval(self.value, self.groups)

    def interval(self) -> list[float] | None:
        """Return the bootstrap's interval, the closed form where every draw agrees."""
        return interval_or(self.draws, self.closed_form)


def interval_of_mean(shares: Sequence[GroupedShare]) -> list[float] | None:
    """Return the interval of a mean of shares, such as the balanced accuracy of recalls."""
    values, intervals = ([s.value for s in shares], [s.closed_form() for s in shares])
    draws = np.mean([share.draws for share in shares], axis=0)
    return interval_or(draws, lambda: mean_interval(values, intervals))


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
        "balanced_accuracy_ci95": balanced_accuracy_interval(weights, groups, actual, predicted),
        "roc_auc_ci95": _auc_interval(weights, groups, actual, p, classes),
    }


def balanced_accuracy_interval(
    weights: NDArray[np.float64],
    groups: NDArray[np.str_],
    actual: NDArray[np.int64],
    predicted: NDArray[np.int64],
) -> list[float] | None:
    """Bootstrap the balanced accuracy.

    Args:
        weights: (draws, n), of `steps.training.bootstrap.group_weights`.
        groups: of each scan (n,).
        actual: class indices (n,).
        predicted: class indices (n,).

    Returns:
        The 95 % interval; None where too few draws have every class.
    """
    return interval_of_mean(
        [
            GroupedShare.of(predicted[of] == c, weights[:, of], groups[of])
            for c, of in ((c, actual == c) for c in np.unique(actual))
        ]
    )


def _auc_interval(
    weights: NDArray[np.float64],
    groups: NDArray[np.str_],
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
        ranked = [(sick, disease_probability(p, classes))]
    else:
        ranked = [(actual == c, p[:, c]) for c in range(len(classes))]
    areas = [(sick, score[np.newaxis]) for sick, score in ranked]
    draws = np.mean([weighted_auc(weights, sick, score) for sick, score in areas], axis=0)

    def closed_form() -> list[float]:
        """Average the ends, as of areas that go up and down together: one-vs-rest ones do."""
        one = np.ones((1, len(actual)))
        ends = [
            area_interval(
                float(weighted_auc(one, sick, score)[0]),
                len(np.unique(groups[sick])),
                len(np.unique(groups[~sick])),
            )
            for sick, score in areas
        ]
        return [float(end) for end in np.mean(ends, axis=0)]

    return interval_or(draws, closed_form)
