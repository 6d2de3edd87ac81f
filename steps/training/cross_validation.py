"""Cross-validation of the head on kept features: many heads in seconds, none sees its own scans."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold
from threadpoolctl import ThreadpoolController

from model.artefact import Head
from steps.training.head import class_weights
from steps.training.logistic import solve_logistic
from steps.training.whitening import whitening

FOLDS = 5

Labels = NDArray[np.int64]


def solve_head(
    features: NDArray[np.float32],
    labels: Labels,
    class_count: int,
    l2: float,
    balanced: bool,
    shrinkage: float = 1.0,
) -> Head:
    """Find the head that `head.fit_head` trains towards, at the minimum of the same loss.

    The loss is convex, so scikit-learn finds in a hundredth of a second what Keras needs some
    seconds for.

    Args:
        features: (n, features).
        labels: class indices (n,).
        class_count: classes that a head tells apart.
        l2: times the sum of squared kernel entries, added to the mean cross-entropy.
        balanced: weigh each class by 1 / its share.
        shrinkage: of the covariance within classes, see steps.training.whitening.

    Returns:
        The head, whitening folded in.
    """
    with one_thread():
        white = whitening(features, labels, shrinkage)
        x = white.apply(features).astype(np.float64)
        weights = class_weights(labels) if balanced else {}
        weight = np.array([weights.get(int(label), 1.0) for label in labels]) / len(labels)
        return white.folded(*solve_logistic(x, labels, class_count, l2, weight))


def one_thread() -> AbstractContextManager[Any]:
    """Keep BLAS to one thread: a product this small is ten times slower shared among threads."""
    limits: AbstractContextManager[Any] = _blas().limit(limits=1)
    return limits


@functools.cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()  # looks through every loaded library, which takes 6 ms


class QuickGroupKFold(StratifiedGroupKFold):  # type: ignore[misc]  # scikit-learn has no types
    """scikit-learn's own folds, found for all folds at once: 1,500 shuffles took 30 s."""

    def _find_best_fold(
        self,
        y_counts_per_fold: NDArray[np.float64],
        y_cnt: NDArray[np.float64],
        group_y_counts: NDArray[np.float64],
    ) -> int:
        """Choose the fold in which a group leaves the classes most evenly spread.

        Args:
            y_counts_per_fold: scans of each class in each fold so far (folds, classes).
            y_cnt: scans of each class (classes,).
            group_y_counts: scans of each class in the group (classes,).
        """
        folds = self.n_splits
        tried = np.repeat(y_counts_per_fold[np.newaxis], folds, axis=0)
        tried[np.arange(folds), np.arange(folds)] += group_y_counts
        uneven = np.std(tried / y_cnt, axis=1).mean(axis=1)
        sizes = y_counts_per_fold.sum(axis=1)
        best, least, fewest = 0, np.inf, np.inf
        for fold in range(folds):
            # As in numpy.isclose: even folds are taken for equal, and the smallest wins.
            close = abs(uneven[fold] - least) <= 1e-8 + 1e-5 * abs(least) if fold else False
            if uneven[fold] < least or (close and sizes[fold] < fewest):
                best, least, fewest = fold, uneven[fold], sizes[fold]
        return best


def grouped_folds(
    labels: Labels, groups: NDArray[np.str_] | NDArray[np.int64], seed: int
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Divide scans into folds that keep groups whole and classes in proportion.

    Args:
        labels: class indices (n,).
        groups: of each scan (n,).
        seed: of the shuffle.

    Yields:
        Positions to train on and positions held out, FOLDS times, fewer when a class has fewer
        groups. A fold without a class in training is left out.
    """
    per_class = min(len(np.unique(groups[labels == c])) for c in np.unique(labels))
    folds = min(FOLDS, per_class)
    if folds < 2:
        return
    splitter = QuickGroupKFold(folds, shuffle=True, random_state=seed)
    for train, held_out in splitter.split(labels, labels, groups):
        if len(np.unique(labels[train])) == len(np.unique(labels)):
            yield train, held_out


def held_out_logits(
    vectors: NDArray[np.float32],
    labels: Labels,
    groups: NDArray[np.str_] | NDArray[np.int64],
    class_count: int,
    *,
    l2: float,
    balanced: bool,
    seed: int,
    shrinkage: float = 1.0,
) -> NDArray[np.float32]:
    """Score every scan by a head that was trained without its group.

    Args:
        vectors: (n, 1 + views, features): the scan itself, then its views. Heads train on all of
            them and are asked about the scan itself.
        labels: class indices (n,).
        groups: of each scan (n,).
        class_count: classes.
        l2: see `solve_head`.
        balanced: see `solve_head`.
        seed: of the folds.
        shrinkage: see `solve_head`.

    Returns:
        Logits (n, classes); NaN where no fold could hold a scan out.
    """
    logits = np.full((len(labels), class_count), np.nan, dtype=np.float32)
    views = vectors.shape[1]
    for train, held_out in grouped_folds(labels, groups, seed):
        features = vectors[train].reshape(-1, vectors.shape[2])
        head = solve_head(
            features, labels[train].repeat(views), class_count, l2, balanced, shrinkage
        )
        logits[held_out] = head.logits(vectors[held_out, 0])
    return logits
