"""Heads on kept features, and how they carry over: for benchmarks/recipe.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from steps.training.bootstrap import group_weights, interval, weighted_auc
from steps.training.cross_validation import solve_head
from steps.training.head import mean_and_deviation

Vectors = NDArray[np.float32]
Labels = NDArray[np.int64]
Linear = tuple[NDArray[np.float64], float]  # weights (features,), bias: above 0 is diseased
Fit = Callable[[Vectors, Labels], Linear]

HALVINGS = 20  # of each target's groups: a recipe is chosen on one half, published on the other


def logistic(l2: float, *, balanced: bool = True, shrinkage: float = 1.0) -> Fit:
    """Fit the loss of training, on features whitened as training does; 1 standardises only."""

    def fit(features: Vectors, sick: Labels) -> Linear:
        head = solve_head(features, sick, 2, l2, balanced, shrinkage)
        kernel = head.kernel.astype(np.float64)
        return kernel[:, 1] - kernel[:, 0], float(head.bias[1] - head.bias[0])

    return fit


def discriminant(shrinkage: float, *, balanced: bool = False) -> Fit:
    """Fit Fisher's linear discriminant with a covariance shrunk towards a multiple of one.

    Args:
        shrinkage: 0 leaves the covariance within classes as it is, 1 leaves the class means.
        balanced: both classes' covariances weigh the same, however many scans they have.
    """

    def fit(features: Vectors, sick: Labels) -> Linear:
        mean, deviation = mean_and_deviation(features)
        x = ((features - mean) / deviation).astype(np.float64)
        middles = [x[sick == label].mean(axis=0) for label in (0, 1)]
        weight = np.ones(len(x)) / len(x)
        if balanced:
            weight = np.where(sick == 1, 0.5 / (sick == 1).sum(), 0.5 / (sick == 0).sum())
        rest = x - np.stack(middles)[sick]
        within = (rest * weight[:, np.newaxis]).T @ rest
        count = len(within)
        shrunk = (1 - shrinkage) * within
        shrunk += shrinkage * np.trace(within) / count * np.eye(count)
        direction = np.linalg.solve(shrunk, middles[1] - middles[0])
        scaled = direction / deviation
        return scaled, float(-(middles[0] + middles[1]) @ direction / 2 - mean @ scaled)

    return fit


def heads() -> dict[str, Fit]:
    """Return every head that is compared, by name."""
    ridge = {f"logistic, L2 {l2:g}": logistic(l2) for l2 in (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)}
    shrunk = {f"shrunk LDA {s:g}": discriminant(s) for s in (0.5, 0.8, 0.9, 0.95, 0.98)}
    white = {
        f"whitened {s:g}, logistic, L2 {l2:g}": logistic(l2, shrinkage=s)
        for s in (0.9, 0.95)
        for l2 in (10.0, 30.0)
    }
    return (
        ridge
        | shrunk
        | white
        | {
            "shrunk LDA 0.9, classes weigh the same": discriminant(0.9, balanced=True),
            "logistic, L2 1, scans weigh the same": logistic(1.0, balanced=False),
            "class means": discriminant(1.0),
        }
    )


def area(score: NDArray[np.float64], sick: Labels) -> float:
    """Return the area under the ROC curve, from ranks (Mann and Whitney 1947)."""
    diseased = int(sick.sum())
    above = rankdata(score)[sick == 1].sum() - diseased * (diseased + 1) / 2
    return float(above / (diseased * (len(sick) - diseased)))


def area_interval(
    score: NDArray[np.float64], sick: Labels, groups: NDArray[np.int64]
) -> list[float] | None:
    """Return the 95 % interval of the area, by bootstrap over groups."""
    return interval(weighted_auc(group_weights(groups, 0), sick == 1, score[np.newaxis]))


def halves(
    sick: Labels, groups: NDArray[np.int64], seed: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Divide scans into two halves by group, each class's groups at random."""
    rng = np.random.default_rng(seed)
    first: set[int] = set()
    for label in (0, 1):
        own = np.unique(groups[sick == label])
        first |= set(rng.permutation(own)[: len(own) // 2].tolist())
    chosen = np.isin(groups, list(first))
    return chosen, ~chosen


def nested_worst(
    scores: Sequence[Sequence[NDArray[np.float64]]],
    sick: Sequence[Labels],
    groups: Sequence[NDArray[np.int64]],
) -> tuple[dict[int, int], list[list[float]]]:
    """Choose the recipe on half of every target's groups; measure the choice on the others.

    Args:
        scores: by recipe, by direction: of the target's scans.
        sick: by direction, of the target's scans.
        groups: likewise.

    Returns:
        How often each recipe was chosen, and the areas of the chosen one on the other halves, by
        halving and direction.
    """
    chosen: dict[int, int] = {}
    published = []
    for seed in range(HALVINGS):
        parts = [halves(s, g, seed) for s, g in zip(sick, groups, strict=True)]
        for here, there in ((0, 1), (1, 0)):
            worst = [
                min(
                    area(score[part[here]], s[part[here]])
                    for score, s, part in zip(recipe, sick, parts, strict=True)
                )
                for recipe in scores
            ]
            best = int(np.argmax(worst))
            chosen[best] = chosen.get(best, 0) + 1
            published.append(
                [
                    area(score[part[there]], s[part[there]])
                    for score, s, part in zip(scores[best], sick, parts, strict=True)
                ]
            )
    return chosen, published
