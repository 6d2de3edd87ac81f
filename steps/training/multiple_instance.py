"""Train the slice head where labels are of series or patients: multiple-instance learning.

A diseased series shows the disease in some of its slices; its other slices, labelled like them,
would teach the head what is not there. So the head is trained on all slices, asked about each one
without its patient, and trained again on the slices of diseased series that are most suspicious
(docs/adr/0072-labels-of-series.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from model.decision import disease_probability, probabilities
from scans.manifest import ManifestRow
from steps.training.calibration import REPEATS, Calibration
from steps.training.cross_validation import grouped_folds, solve_head
from steps.training.head import HeadSettings
from steps.training.series_bags import series_numbers, sick_classes

ROUNDS = 3  # the choice hardly changes after the second
SHARE = 0.2  # of a diseased series' slices that are kept
FEWEST = 2  # slices of a series that are kept at least, where it has them


def telling_slices(
    vectors: NDArray[np.float32],
    rows: Sequence[ManifestRow],
    classes: Sequence[str],
    healthy: Sequence[str],
    settings: HeadSettings,
    seed: int,
) -> NDArray[np.bool_]:
    """Choose the slices whose labels are likely to be true of themselves.

    Args:
        vectors: (n, 1 + views, features) of the training and validation scans.
        rows: of the same scans.
        classes: names in the order of the head's outputs.
        healthy: names of the classes that are no disease.
        settings: of the head.
        seed: of the folds.

    Returns:
        (n,): every slice of healthy series and every scan of no series; of diseased series the
        most suspicious slices.
    """
    labels = np.array([classes.index(row.label) for row in rows], dtype=np.int64)
    groups = np.array([row.group for row in rows])
    series = series_numbers(rows)
    diseased = (series >= 0) & sick_classes(classes, healthy)[labels]
    kept = np.ones(len(rows), dtype=bool)
    for number in range(ROUNDS):
        logits = held_out_logits_of_all(
            vectors, labels, groups, kept, len(classes), settings, seed + number
        )
        if not np.isfinite(logits).all():
            return kept
        p = disease_probability(probabilities(logits), classes, healthy)
        kept = ~diseased
        for bag in np.unique(series[diseased]):
            own = np.flatnonzero(diseased & (series == bag))
            count = max(FEWEST, int(np.ceil(SHARE * len(own))))
            kept[own[np.argsort(-p[own], kind="stable")[:count]]] = True
    return kept


def held_out_of_all(
    vectors: NDArray[np.float32],
    rows: Sequence[ManifestRow],
    classes: Sequence[str],
    kept: NDArray[np.bool_],
    settings: HeadSettings,
    calibration: Calibration,
    seed: int,
) -> NDArray[np.float64]:
    """Return held-out calibrated probabilities (n, classes) of every slice, kept or not.

    Args:
        vectors, rows, classes, settings, seed: see `telling_slices`.
        kept: what `telling_slices` chose.
        calibration: of the kept slices.
    """
    labels = np.array([classes.index(row.label) for row in rows], dtype=np.int64)
    groups = np.array([row.group for row in rows])
    logits = [
        held_out_logits_of_all(vectors, labels, groups, kept, len(classes), settings, seed + repeat)
        for repeat in range(REPEATS)
    ]
    mean: NDArray[np.float32] = np.stack(logits).mean(axis=0)
    return probabilities(mean, calibration.temperature)


def held_out_logits_of_all(
    vectors: NDArray[np.float32],
    labels: NDArray[np.int64],
    groups: NDArray[np.str_],
    kept: NDArray[np.bool_],
    class_count: int,
    settings: HeadSettings,
    seed: int,
) -> NDArray[np.float32]:
    """Score every slice by a head that was trained on kept slices of other groups.

    Args:
        vectors: (n, 1 + views, features).
        labels: class indices (n,).
        groups: of each scan (n,).
        kept: which slices heads may be trained on (n,).
        class_count: classes.
        settings: of the head.
        seed: of the folds.

    Returns:
        Logits (n, classes); NaN where no fold could hold a scan out.
    """
    result = np.full((len(labels), class_count), np.nan, dtype=np.float32)
    views = vectors.shape[1]
    for train, held_out in grouped_folds(labels, groups, seed):
        chosen = train[kept[train]]
        head = solve_head(
            vectors[chosen].reshape(-1, vectors.shape[2]),
            labels[chosen].repeat(views),
            class_count,
            settings.l2,
            settings.balanced_classes,
            settings.shrinkage,
        )
        result[held_out] = head.logits(vectors[held_out, 0])
    return result
