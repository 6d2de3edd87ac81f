"""Fit how the slices of a series become its answer, by cross-validation over patients.

Every slice is asked of a head that has not seen its patient (calibration.py). From these answers
each candidate gives every series a score; the curve that calibrates it, and the attention, are
fitted on other patients than those whose loss is counted (docs/adr/0070-one-answer-per-series.md).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.metrics import roc_auc_score

from model.conformal import fit_conformal
from model.decision import disease_probability, healthy_indices
from model.series_answer import (
    Aggregation,
    Attention,
    SeriesAnswer,
    aggregated,
    class_probabilities,
    logits,
)
from scans.manifest import ManifestRow
from steps.training.calibration import Calibration, held_out_coverage
from steps.training.cross_validation import grouped_folds
from steps.training.head import HeadSettings
from steps.training.multiple_instance import held_out_of_all
from steps.training.series_attention import fit_attention, principal_components
from steps.training.series_bags import Bags, bags_of
from steps.training.threshold import floor_threshold, operating_point

CANDIDATES: tuple[tuple[Aggregation, int], ...] = (  # from the simplest
    ("maximum", 1), ("top_mean", 2), ("top_mean", 3), ("top_mean", 5), ("noisy_or", 1),
    ("attention", 1),
)  # fmt: skip
REPEATS = 3
MIN_GROUPS = 3  # patients with disease, and without: fewer cannot be held out and compared

Numbers = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class SeriesFit:
    """What the artefact carries for series, and how it came about."""

    answer: SeriesAnswer | None  # None where series are unknown or too few
    attention: Attention | None  # where attention was chosen
    report: dict[str, Any]  # JSON-ready


@dataclasses.dataclass(frozen=True)
class Scores:
    """A candidate's answers about series that it was not fitted on."""

    logit: Numbers  # calibrated, of disease (repeats, series)
    score: Numbers  # before the calibration (repeats, series)
    loss: Numbers  # cross-entropy per series, nats (series,)


def fit_series(
    views: NDArray[np.float32],
    rows: Sequence[ManifestRow],
    calibration: Calibration,
    classes: Sequence[str],
    healthy: Sequence[str],
    head_settings: HeadSettings,
    kept: NDArray[np.bool_] | None = None,
    *,
    spacing_mm: float,
    sensitivity: float,
    undecided_error_rate: float,
    seed: int,
) -> SeriesFit:
    """Choose an aggregation and fit its calibration, threshold and prediction sets.

    Args:
        views: (n, 1 + views, features) of the training and validation scans.
        rows: of the same scans, in the same order.
        calibration: of the slices.
        classes: names in the order of the head's outputs.
        healthy: names of the classes that are no disease.
        head_settings: of the head that is served.
        kept: the slices that the head was trained on; None for all.
        spacing_mm: nearer slices of a series are thinned.
        sensitivity: that the threshold is surely to reach, 0-1.
        undecided_error_rate: share of each class that prediction sets may miss, 0-1.
        seed: of folds, attention and draws.
    """
    bags = bags_of(rows, classes, healthy, spacing_mm)
    vectors, p = views[:, 0], calibration.held_out
    if p is not None and kept is not None:
        p = held_out_of_all(views, rows, classes, kept, head_settings, calibration, seed)
    reason = _why_not(bags, p, classes, healthy)
    if reason is not None or p is None:
        return SeriesFit(None, None, {"series": len(bags.label), "reason": reason})
    disease = logits(disease_probability(p, classes, healthy))
    components = principal_components(vectors[np.concatenate(bags.members)])
    values, weight = components.values(vectors), group_shares(bags.group)
    tried = {
        candidate: _held_out(candidate, bags, disease, values, weight, seed)
        for candidate in CANDIDATES
    }
    chosen = _simplest_of_the_best({c: s.loss for c, s in tried.items()}, bags.group)
    slope, intercept = fit_curve(tried[chosen].score.mean(axis=0), bags.sick, weight)
    p_sick = expit(tried[chosen].logit.mean(axis=0))
    p_classes = np.stack(
        [
            class_probabilities(float(p_bag), p[members], classes, healthy)
            for p_bag, members in zip(p_sick, bags.members, strict=True)
        ]
    )
    floor = floor_threshold(p_sick, bags.sick, bags.group, sensitivity)
    answer = SeriesAnswer(
        aggregation=chosen[0],
        top=chosen[1],
        slope=slope,
        intercept=intercept,
        threshold=floor.threshold if healthy_indices(classes, healthy) else None,
        conformal=fit_conformal(p_classes, bags.label, undecided_error_rate),
    )
    attention = None
    if chosen[0] == "attention":
        attention = fit_attention(values, disease, bags, weight, seed).on_features(components)
    report = {
        "series": len(bags.sick),
        "groups": len(np.unique(bags.group)),
        "diseased_series": int(bags.sick.sum()),
        "aggregation": name_of(chosen),
        "cross_validation": {
            name_of(candidate): _described(found, bags.sick, bags.group)
            for candidate, found in tried.items()
        },
        "slope": slope,
        "intercept": intercept,
        "threshold": answer.threshold,
        "stated_sensitivity": sensitivity,
        "sensitivity_floor": dataclasses.asdict(floor),
        "undecided": held_out_coverage(
            p_classes, bags.label, bags.group, classes, undecided_error_rate, seed
        ),
        **operating_point(p_sick >= floor.threshold, bags.sick, bags.group, seed),
    }
    return SeriesFit(answer, attention, report)


def _why_not(
    bags: Bags, p: Numbers | None, classes: Sequence[str], healthy: Sequence[str]
) -> str | None:
    """Say why series cannot be fitted; None where they can."""
    if not len(bags.label):
        return "no scan says of which series it is"
    if not healthy_indices(classes, healthy) and len(classes) > 2:
        return "no class is healthy, so there is no probability of disease to aggregate"
    if p is None or not np.isfinite(p).all():
        return "no patient could be held out"
    for name, chosen in (("with", bags.sick), ("without", ~bags.sick)):
        found = len(np.unique(bags.group[chosen]))
        if found < MIN_GROUPS:
            return f"{found} patients have series {name} disease, fewer than {MIN_GROUPS}"
    return None


def name_of(candidate: tuple[Aggregation, int]) -> str:
    """Return a candidate's name as reports show it."""
    aggregation, top = candidate
    return f"top_mean_{top}" if aggregation == "top_mean" else aggregation


def group_shares(groups: NDArray[np.str_]) -> Numbers:
    """Weigh series (n,) so that each patient counts the same; the weights average 1."""
    _, of_group, counts = np.unique(groups, return_inverse=True, return_counts=True)
    shares = 1.0 / counts[of_group]
    result: Numbers = shares / shares.mean()
    return result


def expit(logit: Numbers) -> Numbers:
    """Turn logits into probabilities."""
    result: Numbers = np.exp(-np.logaddexp(0.0, -logit))
    return result


def fit_curve(score: Numbers, sick: NDArray[np.bool_], weight: Numbers) -> tuple[float, float]:
    """Fit the logistic curve that turns scores into probabilities (Platt 1999, section 2).

    Args:
        score: in logits (n,).
        sick: whether the series is diseased (n,).
        weight: of each series (n,).

    Returns:
        Slope, never negative, and intercept. Targets are Platt's, a little inside 0 and 1, so that
        few series that are all told apart do not give certainty.
    """
    n_sick, n_sound = weight[sick].sum(), weight[~sick].sum()
    target = np.where(sick, (n_sick + 1) / (n_sick + 2), 1 / (n_sound + 2))

    def loss(curve: Numbers) -> tuple[float, Numbers]:
        logit = curve[0] * score + curve[1]
        value = weight @ (np.logaddexp(0.0, logit) - target * logit)
        slope = weight * (expit(logit) - target)
        return float(value), np.array([slope @ score, slope.sum()])

    found = minimize(
        loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=[(0, None), (None, None)]
    )
    return float(found.x[0]), float(found.x[1])


def _held_out(
    candidate: tuple[Aggregation, int],
    bags: Bags,
    disease: Numbers,
    values: Numbers,
    weight: Numbers,
    seed: int,
) -> Scores:
    """Score every series by a curve, and an attention, fitted without its patient."""
    sick, count = bags.sick, len(bags.label)
    logit, score = np.full((2, REPEATS, count), np.nan)
    for repeat in range(REPEATS):
        for fitted, held_out in grouped_folds(sick.astype(np.int64), bags.group, seed + repeat):
            of_bag = _scores(candidate, bags, disease, values, weight, fitted, seed + repeat)
            slope, intercept = fit_curve(of_bag[fitted], sick[fitted], weight[fitted])
            score[repeat, held_out] = of_bag[held_out]
            logit[repeat, held_out] = slope * of_bag[held_out] + intercept
    loss = (np.logaddexp(0.0, logit) - sick * logit).mean(axis=0)
    return Scores(logit, score, loss)


def _scores(
    candidate: tuple[Aggregation, int],
    bags: Bags,
    disease: Numbers,
    values: Numbers,
    weight: Numbers,
    fitted: NDArray[np.intp],
    seed: int,
) -> Numbers:
    """Aggregate each series (series,); attention is fitted on the series `fitted`."""
    aggregation, top = candidate
    attention = np.zeros_like(disease)
    if aggregation == "attention":
        layers = fit_attention(values, disease, bags.of(fitted), weight[fitted], seed)
        attention = layers.logits(values)
    return np.array([aggregated(disease[m], attention[m], aggregation, top) for m in bags.members])


def _simplest_of_the_best(
    losses: dict[tuple[Aggregation, int], Numbers], groups: NDArray[np.str_]
) -> tuple[Aggregation, int]:
    """Choose the simplest candidate within one standard error of the best.

    Breiman et al. 1984, "Classification and Regression Trees", section 3.4.3, on the differences
    between candidates: patients that are hard for one are hard for all.

    Args:
        losses: per series, by candidate from the simplest.
        groups: patient of each series.
    """
    per_group = {c: _group_means(loss, groups) for c, loss in losses.items()}
    best = min(per_group.values(), key=lambda loss: float(loss.mean()))
    for candidate, loss in per_group.items():
        behind = loss - best
        if behind.mean() <= behind.std(ddof=1) / np.sqrt(len(behind)):
            return candidate
    raise AssertionError("the best is within one standard error of itself")


def _group_means(values: Numbers, groups: NDArray[np.str_]) -> Numbers:
    _, of_group = np.unique(groups, return_inverse=True)
    result: Numbers = np.bincount(of_group, values) / np.bincount(of_group)
    return result


def _described(
    found: Scores, sick: NDArray[np.bool_], groups: NDArray[np.str_]
) -> dict[str, float]:
    """Return held-out `loss` (nats, each patient counts the same) and `auc` of a candidate."""
    return {
        "loss": float(_group_means(found.loss, groups).mean()),
        "auc": float(roc_auc_score(sick, found.logit.mean(axis=0))),
    }
