"""What a model's answers about series and patients are worth, and where its key slices lie.

A series is diseased if any of its slices is, and a patient if any slice of the patient's is: where
labels are per slice, as those of phantom patients, most slices of a diseased series may be normal.
A patient gets the answer of the series with the highest probability of disease.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from steps.evaluation.external_scores import SEED, external_scores, share_by_group
from steps.training.bootstrap import group_weights, interval, weighted_auc, weighted_share

MOSTLY = 0.5  # share of a series' slices out of domain, above which it is said to be
MEASURES = ("roc_auc", "sensitivity", "specificity", "balanced_accuracy")
COUNTS = ("slices", "scored", "skipped", "failed")  # of the slices, in a model's answers
KEPT = ("n", "groups", "diseased", *MEASURES, "calibration", "out_of_domain", "undecided")


@dataclass(frozen=True)
class KnownSlices:
    """What is known of the slices of a set, in the order in which they were scored.

    Attributes:
        series: name of each one's series, None where unknown (n,).
        patients: keyed hash of each one's patient, None where unknown (n,).
        groups: patients, joined with near-duplicates; intervals draw them whole (n,).
        diseased: whether its label is a disease (n,).
        lesion: whether a mask or a box marks a lesion on it (n,).
        position_mm: along the normal, NaN where unknown (n,).
    """

    series: Sequence[str | None]
    patients: Sequence[str | None]
    groups: NDArray[np.str_]
    diseased: NDArray[np.bool_]
    lesion: NDArray[np.bool_]
    position_mm: NDArray[np.float64]


def series_section(
    answers: pd.DataFrame, slices: KnownSlices, healthy: Sequence[str], threshold: float | None
) -> dict[str, Any]:
    """Score answers about series.

    Args:
        answers: one row per series, as a model's `series_rows` gives it.
        slices: that the answers are about.
        healthy: names of the model's classes that are no disease; at least one.
        threshold: the model's own, on the probability of a series.

    Returns:
        JSON-ready: `threshold`; `series` and `patients`, see `_level`, None without any answer;
        `counts` of series (all, `answered`, `without_answer`) and of their slices (all, `scored`,
        `skipped`, `failed`); `why_no_answer`, sentences and how many series have them;
        `without_patient`, answered series whose patient is unknown; `slice_count_alone`, the AUC of
        the number of slices, which looks at none: far from 0.5, length gives the answer away;
        `key_slice`, see `_key_slice`.
    """
    unanswered = answers["label"].isna()
    known = answers[~unanswered].reset_index(drop=True)
    members = _members(slices)
    per_series = _series_table(known, slices, members, healthy)
    per_patient = _patient_table(per_series, slices)
    why = Counter(str(sentence) for sentence in answers.loc[unanswered, "error"])
    return {
        "threshold": threshold,
        "counts": {
            "series": len(answers),
            "answered": len(known),
            "without_answer": int(unanswered.sum()),
            **{
                name: int(answers[name].sum()) for name in ("slices", "scored", "skipped", "failed")
            },
        },
        "why_no_answer": [{"sentence": text, "series": n} for text, n in why.most_common()],
        "series": _level(per_series, threshold),
        "patients": _level(per_patient, threshold),
        "without_patient": int(per_series["patient"].isna().sum()),
        "slice_count_alone": _slice_count_alone(known, per_series),
        "key_slice": _key_slice(answers, slices, members),
    }


def _members(slices: KnownSlices) -> dict[str, NDArray[np.intp]]:
    """Return the places of each series' slices."""
    frame = pd.Series(list(slices.series), dtype=object)
    return {str(name): places.to_numpy() for name, places in frame.groupby(frame).groups.items()}


def _series_table(
    answers: pd.DataFrame,
    slices: KnownSlices,
    members: dict[str, NDArray[np.intp]],
    healthy: Sequence[str],
) -> pd.DataFrame:
    """Put truth and answer of each answered series beside each other."""
    own = [members[name] for name in answers["series"]]
    p_healthy = answers[[f"p_{name}" for name in healthy]].to_numpy(np.float64)
    undecided = answers["undecided"]
    return pd.DataFrame(
        {
            "diseased": [bool(slices.diseased[places].any()) for places in own],
            "p": 1.0 - p_healthy.sum(axis=1),
            "called": ~answers["label"].isin(healthy).to_numpy(bool),
            "outside": answers["out_of_domain_share"].to_numpy(np.float64) > MOSTLY,
            "undecided": np.nan if undecided.isna().all() else undecided.eq(True).to_numpy(),
            "group": [slices.groups[places[0]] for places in own],
            "patient": pd.Series([slices.patients[places[0]] for places in own], dtype=object),
        }
    )


def _patient_table(per_series: pd.DataFrame, slices: KnownSlices) -> pd.DataFrame:
    """Give each patient the answer of the series with the highest probability of disease.

    A patient's slices without a known series count for the truth as well.
    """
    by_p = per_series.dropna(subset="patient").sort_values("p", ascending=False, kind="stable")
    highest = by_p.drop_duplicates("patient").reset_index(drop=True)
    truth = pd.Series(slices.diseased).groupby(pd.Series(list(slices.patients), dtype=object)).any()
    return highest.assign(diseased=truth.reindex(highest["patient"]).to_numpy(bool))


def _level(table: pd.DataFrame, threshold: float | None) -> dict[str, Any] | None:
    """Score one table of answers; intervals are by group.

    Returns:
        `n`, `groups`, `diseased`, the MEASURES (each with `value` and `ci95`), `calibration`,
        `out_of_domain` (of those with more than half of their slices so) and `undecided` as
        `steps.evaluation.external_scores.external_scores` gives them; `decided`, the measures of
        those that are neither. None for an empty table.
    """
    if table.empty:
        return None
    undecided = None if table["undecided"].isna().all() else table["undecided"].to_numpy(bool)
    scores = external_scores(
        table["diseased"].to_numpy(bool),
        table["p"].to_numpy(np.float64),
        table["called"].to_numpy(bool),
        table["outside"].to_numpy(bool),
        undecided,
        table["group"].to_numpy(np.str_),
        threshold,
        prevalences=(),
    )
    decided = scores["decided"]
    if decided is not None:
        decided = {"n": decided["scans"]} | {name: decided[name] for name in MEASURES}
    return {name: scores[name] for name in KEPT} | {"decided": decided}


def _slice_count_alone(known: pd.DataFrame, per_series: pd.DataFrame) -> float | None:
    truth = per_series["diseased"].to_numpy(bool)
    if truth.all() or not truth.any():
        return None
    count = known["slices"].to_numpy(np.float64)[np.newaxis]
    return float(weighted_auc(np.ones((1, len(truth))), truth, count)[0])


def _key_slice(
    answers: pd.DataFrame, slices: KnownSlices, members: dict[str, NDArray[np.intp]]
) -> dict[str, Any] | None:
    """Count how often the key slice of a series with a marked lesion shows the lesion.

    Returns:
        `series` (that have a key slice and a marked lesion), `within` (share whose key slice lies
        within the lesion), `by_chance` (expected of a slice drawn at random: the mean share of a
        series' slices that show it), `above_chance` (the difference), `middle_slice` (share whose
        middle slice shows it; None where positions are unknown). None without such a series.
    """
    places = [
        (members[name], int(key))
        for name, key in zip(answers["series"], answers["key_slice"], strict=True)
        if not pd.isna(key) and slices.lesion[members[name]].any()
    ]
    if not places:
        return None
    groups = np.array([slices.groups[key] for _, key in places])
    weights = group_weights(groups, SEED)
    hit = np.array([slices.lesion[key] for _, key in places])
    chance = np.array([slices.lesion[own].mean() for own, _ in places])
    middle = np.array([_middle(slices, own) for own, _ in places])
    above = hit - chance
    return {
        "series": len(places),
        "groups": len(np.unique(groups)),
        "within": share_by_group(hit, weighted_share(weights, hit), groups),
        "by_chance": float(chance.mean()),
        "above_chance": {
            "value": float(above.mean()),
            "ci95": interval(weighted_share(weights, above)) if len(set(groups)) > 1 else None,
        },
        "middle_slice": None if np.isnan(middle).any() else float(middle.mean()),
    }


def _middle(slices: KnownSlices, own: NDArray[np.intp]) -> float:
    """Return whether the middle slice shows the lesion; of two, the mean; NaN without positions."""
    positions = slices.position_mm[own]
    if np.isnan(positions).any():
        return float("nan")
    in_order = own[np.argsort(positions, kind="stable")]
    return float(slices.lesion[in_order[[(len(own) - 1) // 2, len(own) // 2]]].mean())
