"""Where scans come from: scores on sources that were left out, and what gives a source away."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import balanced_accuracy_score

from model.artefact import Head
from model.decision import probabilities
from steps.evaluation.baselines import nearest
from steps.evaluation.external_scores import area_by_group
from steps.training.bootstrap import group_weights
from steps.training.cross_validation import grouped_folds

Labels = NDArray[np.int64]
Texts = NDArray[np.str_]
Fit = Callable[[NDArray[np.float32], Labels, int], Head]  # features (n, f), labels, classes


def leave_one_source_out(
    features: NDArray[np.float32],
    labels: Labels,
    groups: Texts,
    sources: Texts,
    classes: Sequence[str],
    fit: Fit,
    healthy: Sequence[int],
    seed: int,
) -> dict[str, Any] | None:
    """Train on all sources but one, and score the one; for each in turn.

    A group that lies in two sources is left out of training when one of them is scored.

    Args:
        features: of each scan (n, f).
        labels: class indices (n,).
        groups: patients or near-duplicates (n,).
        sources: name of each scan's source (n,).
        classes: names in the order of the indices.
        fit: trains a head.
        healthy: indices of the classes that are no disease.
        seed: of the bootstrap.

    Returns:
        By source: `scans`, `groups`, `roc_auc` of disease with `ci95` by group, `trained_on`. None
        where fewer than two sources have both diseased and healthy scans.
    """
    sick = ~np.isin(labels, list(healthy))
    whole = [
        str(name)
        for name in np.unique(sources)
        if sick[sources == name].any() and not sick[sources == name].all()
    ]
    if len(whole) < 2 or not len(healthy):
        return None
    result: dict[str, Any] = {}
    for name in whole:
        scored = sources == name
        train = ~scored & ~np.isin(groups, groups[scored])
        if len(np.unique(sick[train])) < 2:
            continue
        present = np.unique(labels[train])
        head = fit(features[train], np.searchsorted(present, labels[train]), len(present))
        p = np.zeros((int(scored.sum()), len(classes)))
        p[:, present] = probabilities(head.logits(features[scored]))
        disease = 1.0 - p[:, list(healthy)].sum(axis=1)
        weights = group_weights(groups[scored], seed)
        result[name] = {
            "scans": len(disease),
            "groups": len(np.unique(groups[scored])),
            "trained_on": sorted({str(other) for other in sources[train]}),
            "roc_auc": area_by_group(sick[scored], disease, groups[scored], weights),
        }
    return result or None


def shortcut_audit(
    features: NDArray[np.float32],
    labels: Labels,
    groups: Texts,
    sources: Texts,
    measured: Mapping[str, NDArray[np.float64]],
    fit: Fit,
    seed: int,
) -> dict[str, Any]:
    """Measure how far an answer could be had without looking at the lungs.

    Args:
        features: of each scan (n, f).
        labels: class indices (n,).
        groups: patients or near-duplicates (n,).
        sources: name of each scan's source (n,).
        measured: what a shortcut looks at, by its name, (n, values) each: brightness, framing...
        fit: trains a head.
        seed: of the folds.

    Returns:
        Balanced accuracies on held-out groups, each with its `chance`; None where the groups or
        sources are too few: `source_from_features` (a head trained to name the source),
        `class_from_source` (the class that is relatively most frequent in each source),
        `class_from` by name of what was measured (5 nearest neighbours).
    """
    names, source = np.unique(sources, return_inverse=True)
    source = source.astype(np.int64)
    audit: dict[str, Any] = {
        "sources": {
            str(name): {
                "scans": int((sources == name).sum()),
                "per_class": np.bincount(
                    labels[sources == name], minlength=int(labels.max()) + 1
                ).tolist(),
            }
            for name in names
        },
        "source_from_features": None,
        "class_from_source": None,
        "class_from": {
            name: _held_out(labels, groups, seed, _nearest_in(values))
            for name, values in measured.items()
        },
    }
    if len(names) > 1:
        audit["source_from_features"] = _held_out(source, groups, seed, _head_on(features, fit))
        audit["class_from_source"] = _held_out(labels, groups, seed, _class_of(source))
    return audit


Answer = Callable[[NDArray[np.intp], Labels, NDArray[np.intp]], Labels]


def _held_out(truth: Labels, groups: Texts, seed: int, answer: Answer) -> dict[str, float] | None:
    called = np.full(len(truth), -1, dtype=np.int64)
    for train, held_out in grouped_folds(truth, groups, seed):
        called[held_out] = answer(train, truth[train], held_out)
    done = called >= 0
    if not done.any():
        return None
    return {
        "balanced_accuracy": float(balanced_accuracy_score(truth[done], called[done])),
        "chance": 1.0 / len(np.unique(truth)),
    }


def _nearest_in(values: NDArray[np.float64]) -> Answer:
    return lambda train, labels, held_out: nearest(values[train], labels, values[held_out])


def _head_on(features: NDArray[np.float32], fit: Fit) -> Answer:
    def answer(train: NDArray[np.intp], labels: Labels, held_out: NDArray[np.intp]) -> Labels:
        head = fit(features[train], labels, int(labels.max()) + 1)
        called: Labels = head.logits(features[held_out]).argmax(axis=1).astype(np.int64)
        return called

    return answer


def _class_of(source: Labels) -> Answer:
    def answer(train: NDArray[np.intp], labels: Labels, held_out: NDArray[np.intp]) -> Labels:
        counts = np.zeros((int(source.max()) + 1, int(labels.max()) + 1))
        np.add.at(counts, (source[train], labels), 1)
        relative = counts / np.maximum(counts.sum(axis=0), 1)  # classes weigh the same
        called: Labels = relative[source[held_out]].argmax(axis=1).astype(np.int64)
        return called

    return answer
