"""The same model under several protocols: how much of a score is the way it was measured.

All heads are trained on kept features (see cross_validation.py), so that a protocol costs seconds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold

from model import decision
from model.decision import disease_probability, healthy_indices, probabilities
from model.out_of_domain import fit_out_of_domain
from steps.evaluation.baselines import BASELINES, Baseline
from steps.evaluation.intervals import GroupedShare, interval_of_mean
from steps.metrics import balanced_accuracy, roc_auc
from steps.training.bootstrap import group_weights, interval_or, weighted_auc
from steps.training.closed_forms import area_interval
from steps.training.cross_validation import FOLDS, grouped_folds, one_thread, solve_head
from steps.training.threshold import held_out_threshold

Labels = NDArray[np.int64]
Fold = tuple[NDArray[np.intp], NDArray[np.intp]]  # positions to train on, positions to score
# Tutorials of this data set train with ImageDataGenerator(validation_split=0.20) and evaluate with
# 0.30: Keras cuts both from the same end, so a third of what is scored was trained on.
TUTORIAL_TRAIN_FRACTION, TUTORIAL_SCORED_FRACTION = 0.8, 0.3


@dataclasses.dataclass(frozen=True)
class KeptScans:
    """Distinct scans with their features, as a protocol needs them."""

    vectors: NDArray[np.float32]  # (n, 1 + views, features): the scan itself, then its views
    labels: Labels  # class indices (n,)
    groups: NDArray[np.str_]  # near-duplicates (n,)
    copies: NDArray[np.int64]  # files with the same bytes (n,), at least 1
    measured: Mapping[str, NDArray[np.float64]]  # what each baseline looks at, (n, values)
    classes: tuple[str, ...]
    sources: NDArray[np.str_]  # where each scan comes from (n,); "" where there is one source
    healthy: tuple[str, ...] = ()  # classes that are no disease, see model.decision

    def taken(self, positions: NDArray[np.intp]) -> KeptScans:
        """Return the scans at these positions; a position may come twice."""
        return KeptScans(
            self.vectors[positions],
            self.labels[positions],
            self.groups[positions],
            self.copies[positions],
            {name: values[positions] for name, values in self.measured.items()},
            self.classes,
            self.sources[positions],
            self.healthy,
        )


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What decides an answer besides the features; the same in training."""

    l2: float
    balanced: bool
    sensitivity: float  # that the operating threshold is to reach on held-out groups
    shrinkage: float = 1.0  # of the covariance within classes, see steps.training.head


def protocols(scans: KeptScans, recipe: Recipe, repeats: int, seed: int) -> dict[str, Any]:
    """Score the model and the baselines under each protocol.

    Args:
        scans: all distinct scans.
        recipe: of the model.
        repeats: how often scans are shuffled into folds anew.
        seed: of the shuffles.

    Returns:
        JSON-ready: a section per protocol, from the most to the least flattering, each with
        `what`, `scans`, `model` (the likeliest class) and `baselines`. The grouped one has
        `model_at_threshold` as well: answers as the served model gives them, at a threshold that
        was chosen within each fold's training scans the way training chooses it.
    """
    return {name: protocol(name, scans, recipe, repeats, seed) for name in PROTOCOLS}


def protocol(name: str, scans: KeptScans, recipe: Recipe, repeats: int, seed: int) -> Any:
    """Score the model and the baselines under one of PROTOCOLS, see `protocols`."""
    what, files, folds = PROTOCOLS[name]
    if files:  # exact copies count as often as they occur
        scans = scans.taken(np.repeat(np.arange(len(scans.labels)), scans.copies))
    grouped = name == "grouped"
    return {"what": what, **_scored(scans, recipe, repeats, seed, folds, at_threshold=grouped)}


def grouped_score(
    scans: KeptScans, groups: NDArray[np.int64], recipe: Recipe, repeats: int, seed: int
) -> dict[str, Any]:
    """Score the model when near-duplicates are joined differently."""
    regrouped = dataclasses.replace(scans, groups=groups.astype(str))
    scored = _scored(regrouped, recipe, repeats, seed, _grouped_folds, {}, at_threshold=True)
    return {
        "groups": len(np.unique(groups)),
        "largest_group": int(np.bincount(groups).max()),
        "model": scored["model"],
        "model_at_threshold": scored["model_at_threshold"],
    }


def flagged_held_out(
    scans: KeptScans, flagged_share: float, repeats: int, seed: int
) -> dict[str, float] | None:
    """Measure how often chest CT of groups that were left out is called out of domain.

    Args:
        scans: all distinct scans.
        flagged_share: that each fold's threshold is chosen for, as in training.
        repeats: how often scans are shuffled into folds anew.
        seed: of the shuffles.

    Returns:
        `mean` and `spread` (standard deviation over the repeats) of the share that is flagged;
        None where the groups are too few to leave any out.
    """
    shares = []
    for repeat in range(repeats):
        flags = [
            fit_out_of_domain(
                scans.vectors[train], scans.groups[train], flagged_share, seed + repeat
            ).flags(scans.vectors[held_out, 0])
            for train, held_out in _grouped_folds(scans, seed + repeat)
        ]
        if flags:
            shares.append(float(np.concatenate(flags).mean()))
    return {"mean": float(np.mean(shares)), "spread": float(np.std(shares))} if shares else None


def _grouped_folds(scans: KeptScans, seed: int) -> Iterator[Fold]:
    return grouped_folds(scans.labels, scans.groups, seed)


def _stratified_folds(scans: KeptScans, seed: int) -> Iterator[Fold]:
    folds = min(FOLDS, int(np.bincount(scans.labels).min()))
    if folds >= 2:
        splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
        yield from splitter.split(scans.labels, scans.labels)


def _tutorial_fold(scans: KeptScans, seed: int) -> Iterator[Fold]:
    """Shuffle the files of each class, train on the last 80 %, score the first 30 %."""
    rng = np.random.default_rng(seed)
    train, scored = [], []
    for c in np.unique(scans.labels):
        files = rng.permutation(np.flatnonzero(scans.labels == c))
        train.append(files[round((1 - TUTORIAL_TRAIN_FRACTION) * len(files)) :])
        scored.append(files[: round(TUTORIAL_SCORED_FRACTION * len(files))])
    yield np.concatenate(train), np.concatenate(scored)


# Name -> what is measured, whether exact copies count, how scans are divided; from the most to the
# least flattering.
PROTOCOLS: dict[str, tuple[str, bool, Callable[[KeptScans, int], Iterator[Fold]]]] = {
    "tutorial": (
        "random files with their exact copies; scored on 30 % of the files, of which the head was "
        "trained on a third",
        True,
        _tutorial_fold,
    ),
    "random_files": (
        "random files with their exact copies, 5-fold",
        True,
        _stratified_folds,
    ),
    "distinct_images": ("exact copies counted once, 5-fold", False, _stratified_folds),
    "grouped": ("near-duplicates kept together, 5-fold", False, _grouped_folds),
}


def _scored(
    scans: KeptScans,
    recipe: Recipe,
    repeats: int,
    seed: int,
    folds: Callable[[KeptScans, int], Iterator[Fold]],
    baselines: Mapping[str, Baseline] = BASELINES,
    at_threshold: bool = False,
) -> dict[str, Any]:
    """Score the model and each baseline on the same folds."""
    views = scans.vectors.shape[1]
    shape = (repeats, len(scans.labels))
    p = np.full((*shape, len(scans.classes)), np.nan)
    called_at_threshold = np.full(shape, -1, dtype=np.int64)
    called = {name: np.full(shape, -1, dtype=np.int64) for name in baselines}
    for repeat in range(repeats):
        for train, held_out in folds(scans, seed + repeat):
            features = scans.vectors[train].reshape(-1, scans.vectors.shape[2])
            labels = scans.labels[train]
            head = solve_head(
                features, labels.repeat(views), len(scans.classes), recipe.l2, recipe.balanced,
                recipe.shrinkage,
            )  # fmt: skip
            p[repeat, held_out] = probabilities(head.logits(scans.vectors[held_out, 0]))
            if at_threshold:
                threshold = held_out_threshold(
                    scans.vectors[train], labels, scans.groups[train], scans.classes,
                    l2=recipe.l2, balanced=recipe.balanced,
                    sensitivity=recipe.sensitivity, seed=seed + repeat,
                    shrinkage=recipe.shrinkage, healthy=scans.healthy,
                )  # fmt: skip
                answers = decision.labels(
                    p[repeat, held_out], scans.classes, threshold, scans.healthy, stored=True
                )
                called_at_threshold[repeat, held_out] = answers
            for name, baseline in baselines.items():
                seen = scans.measured[name]
                with one_thread():
                    answers = baseline(seen[train], labels, seen[held_out])
                called[name][repeat, held_out] = answers
    called_by_model = np.where(np.isnan(p[..., 0]), -1, p.argmax(axis=2))
    result = {
        "scans": len(scans.labels),
        "groups": len(np.unique(scans.groups)),
        "repeats": repeats,
        "model": summary(scans, called_by_model, p, seed),
        "baselines": {name: summary(scans, c, None, seed) for name, c in called.items()},
    }
    if at_threshold:
        result["model_at_threshold"] = summary(scans, called_at_threshold, p, seed)
    return result


def summary(
    scans: KeptScans, called: NDArray[np.int64], p: NDArray[np.float64] | None, seed: int
) -> dict[str, Any]:
    """Summarise answers of several repeats.

    Args:
        scans: what was scored.
        called: class indices (repeats, n); -1 where a scan was not scored.
        p: probabilities (repeats, n, classes), or None where there are only labels.
        seed: of the bootstrap.

    Returns:
        For each measure `mean` and `spread` (standard deviation over the repeats), and `ci95` (of
        `roc_auc` for two classes only), by bootstrap over the groups: the repeats tell how much
        the folds matter, the interval how much it matters which patients came.
    """
    per_repeat: list[dict[str, float | None]] = []
    for repeat, calls in enumerate(called):
        done = calls >= 0
        if done.any():
            some_p = None if p is None else p[repeat, done]
            per_repeat.append(_measures(scans.labels[done], calls[done], some_p, scans))
    result: dict[str, Any] = {}
    for name in per_repeat[0] if per_repeat else ():
        values = [measures[name] for measures in per_repeat]
        known = [value for value in values if value is not None]
        result[name] = {
            "mean": float(np.mean(known)) if known else None,
            "spread": float(np.std(known)) if known else None,
        }
    for name, ci95 in _intervals(scans, called, seed).items():
        if name in result:
            result[name]["ci95"] = ci95
    sound = healthy_indices(scans.classes, scans.healthy)
    if p is not None and "roc_auc" in result and sound and len(scans.classes) == 2:
        disease = np.stack([disease_probability(some, scans.classes) for some in p])
        sick = ~np.isin(scans.labels, sound)
        draws = weighted_auc(group_weights(scans.groups, seed), sick, disease)
        area = result["roc_auc"]["mean"]
        of_class = [len(np.unique(scans.groups[of])) for of in (sick, ~sick)]
        result["roc_auc"]["ci95"] = interval_or(draws, lambda: area_interval(area, *of_class))
    return result


def _measures(
    labels: Labels, called: Labels, p: NDArray[np.float64] | None, scans: KeptScans
) -> dict[str, float | None]:
    measures: dict[str, float | None] = {
        "accuracy": float((labels == called).mean()),
        "balanced_accuracy": balanced_accuracy(labels, called),
    }
    if p is not None:
        measures["roc_auc"] = roc_auc(labels, p, scans.classes)
    sound = healthy_indices(scans.classes, scans.healthy)
    if sound:
        sick, called_sick = ~np.isin(labels, sound), ~np.isin(called, sound)
        measures["sensitivity"] = float(called_sick[sick].mean())
        measures["specificity"] = float((~called_sick[~sick]).mean())
    return measures


def _intervals(
    scans: KeptScans, called: NDArray[np.int64], seed: int
) -> dict[str, list[float] | None]:
    """Draw groups and score each draw by every scan's share of right answers over the repeats."""
    scored = (called >= 0).any(axis=0)
    weights = group_weights(scans.groups, seed)[:, scored]
    labels, groups = scans.labels[scored], scans.groups[scored]
    answers = (called[:, scored] >= 0).sum(axis=0)
    right = (called[:, scored] == labels).sum(axis=0) / answers

    def share(of: NDArray[np.bool_], right: NDArray[np.float64]) -> GroupedShare:
        return GroupedShare.of(right[of], weights[:, of], groups[of])

    intervals = {
        "accuracy": share(np.ones(len(labels), dtype=bool), right).interval(),
        "balanced_accuracy": interval_of_mean(
            [share(labels == c, right) for c in np.unique(labels)]
        ),
    }
    sound = healthy_indices(scans.classes, scans.healthy)
    if sound:
        sick = ~np.isin(labels, sound)
        of = called[:, scored]
        called_sick = ~np.isin(of, sound)
        both = (("sensitivity", sick, called_sick), ("specificity", ~sick, ~called_sick))
        for name, some, hit in both:
            if some.any():
                # A disease called by another's name is found all the same.
                intervals[name] = share(some, ((of >= 0) & hit).sum(axis=0) / answers).interval()
    return intervals
