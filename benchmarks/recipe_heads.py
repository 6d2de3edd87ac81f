"""Heads on kept features, and how they carry over: for benchmarks/recipe.py."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from steps.training.bootstrap import group_weights, interval, weighted_auc
from steps.training.cross_validation import one_thread
from steps.training.logistic import solve_logistic
from steps.training.whitening import inverse_root, mean_and_deviation, whitening

Vectors = NDArray[np.float32]
Labels = NDArray[np.int64]
Linear = tuple[NDArray[np.float64], float]  # weights (features,), bias: above 0 is diseased
Weigh = Literal["scans", "classes", "class x source"]

HALVINGS = 20  # of each target's groups: a recipe is chosen on one half, published on the other


@dataclasses.dataclass(frozen=True)
class Training:
    """What a head is trained on."""

    features: Vectors
    sick: Labels
    source: NDArray[np.str_]
    smoothed: Vectors | None = None  # features of the same scans, smoothed


Fit = Callable[[Training], Linear]


def scan_weights(of: Training, weigh: Weigh) -> NDArray[np.float64]:
    """Weigh scans (n,), summing to 1: alike, each class alike, or each source of a class too."""
    if weigh == "scans":
        return np.full(len(of.sick), 1 / len(of.sick))
    cells = (
        of.sick.astype(str) if weigh == "classes" else np.char.add(of.sick.astype(str), of.source)
    )
    weights = np.zeros(len(of.sick))
    for label in (0, 1):
        own = np.unique(cells[of.sick == label])
        for cell in own:
            weights[cells == cell] = 0.5 / len(own) / (cells == cell).sum()
    return weights


def logistic(l2: float, *, weigh: Weigh = "classes", shrinkage: float = 1.0) -> Fit:
    """Fit the loss of training, on features whitened as training does; 1 standardises only."""

    def fit(of: Training) -> Linear:
        with one_thread():
            white = whitening(of.features, of.sick, shrinkage)
            x = white.apply(of.features).astype(np.float64)
            head = white.folded(*solve_logistic(x, of.sick, 2, l2, scan_weights(of, weigh)))
        kernel = head.kernel.astype(np.float64)
        return kernel[:, 1] - kernel[:, 0], float(head.bias[1] - head.bias[0])

    return fit


def discriminant(shrinkage: float, *, weigh: Weigh = "scans", smoothing: float = 0.0) -> Fit:
    """Fit Fisher's linear discriminant with a covariance shrunk towards a multiple of one.

    Args:
        shrinkage: above 0; 1 leaves the class means.
        weigh: how scans count.
        smoothing: how much the change of each scan's features when it is smoothed counts beside
            the covariance within classes, so that the head looks away from it.
    """

    def fit(of: Training) -> Linear:
        mean, deviation = mean_and_deviation(of.features)
        x = ((of.features - mean) / deviation).astype(np.float64)
        weights = scan_weights(of, weigh)
        middles = [
            np.average(x[of.sick == c], axis=0, weights=weights[of.sick == c]) for c in (0, 1)
        ]
        rest = (x - np.stack(middles)[of.sick]) * np.sqrt(weights)[:, np.newaxis]
        if smoothing and of.smoothed is not None:
            change = ((of.smoothed - of.features) / deviation).astype(np.float64)
            rest = np.concatenate([rest, change * np.sqrt(smoothing * weights)[:, np.newaxis]])
        rest /= np.sqrt(max(float((rest**2).sum()) / rest.shape[1], 1e-12))
        between = (middles[1] - middles[0])[:, np.newaxis]
        with one_thread():
            root = inverse_root(rest, shrinkage)
            direction = root.transposed_times(root.times(between))[:, 0]
        scaled = direction / deviation
        return scaled, float(-(middles[0] + middles[1]) @ direction / 2 - mean @ scaled)

    return fit


@dataclasses.dataclass(frozen=True)
class Served:
    """A head as training makes it, which can be cross-validated with its threshold."""

    l2: float
    shrinkage: float

    @property
    def name(self) -> str:
        """Return what the table calls it."""
        return f"whitened {self.shrinkage:g}, L2 {self.l2:g}"


SERVED = tuple(Served(l2, s) for s in (0.85, 0.9, 0.92, 0.95, 0.98, 0.99) for l2 in (30.0, 100.0))


def heads() -> dict[str, Fit]:
    """Return every head that is compared, by name."""
    ridge = {f"logistic, L2 {l2:g}": logistic(l2) for l2 in (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)}
    shrunk = {
        f"shrunk LDA {s:g}": discriminant(s) for s in (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995)
    }
    white = {one.name: logistic(one.l2, shrinkage=one.shrinkage) for one in SERVED}
    weighed: dict[str, Fit] = {
        "logistic, L2 1, scans weigh the same": logistic(1.0, weigh="scans"),
        "logistic, L2 1, class x source weighs the same": logistic(1.0, weigh="class x source"),
        "whitened 0.98, L2 30, class x source weighs the same": logistic(
            30.0, weigh="class x source", shrinkage=0.98
        ),
        "shrunk LDA 0.95, classes weigh the same": discriminant(0.95, weigh="classes"),
        "shrunk LDA 0.98, classes weigh the same": discriminant(0.98, weigh="classes"),
        "shrunk LDA 0.98, class x source weighs the same": discriminant(
            0.98, weigh="class x source"
        ),
        "class means": discriminant(1.0),
    }
    smooth = {
        f"shrunk LDA {s:g}, smoothing counts {w:g}": discriminant(s, smoothing=w)
        for s in (0.95, 0.98)
        for w in (1.0, 10.0)
    }
    return ridge | shrunk | white | weighed | smooth


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
        groups: by direction, of the target's scans.

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
