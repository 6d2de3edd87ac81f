"""Protocols: the flattering ones flatter, the grouped one does not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from steps.evaluation.baselines import BASELINES
from steps.evaluation.protocols import (
    KeptScans,
    Recipe,
    flagged_held_out,
    grouped_score,
    protocols,
    summary,
)
from steps.training.bootstrap import DRAWS, group_weights, interval, weighted_auc, weighted_share

RECIPE = Recipe(l2=1e-3, balanced=True, sensitivity=0.9)


@pytest.fixture(scope="module")
def noise() -> KeptScans:
    """Patients whose features say nothing of their class, each with two like slices."""
    rng = np.random.default_rng(0)
    patients, features = 40, 60
    centre = np.repeat(rng.normal(size=(patients, 1, features)), 2, axis=0)
    vectors = (centre + rng.normal(0, 0.05, (2 * patients, 2, features))).astype(np.float32)
    labels = np.repeat(np.arange(patients) % 2, 2)
    return KeptScans(
        vectors=vectors,
        labels=labels,
        groups=np.repeat(np.arange(patients), 2).astype(str),
        copies=np.tile([1, 2], patients),
        measured={name: rng.normal(size=(2 * patients, 2)) for name in BASELINES},
        classes=("adenocarcinoma", "normal"),
        sources=np.full(2 * patients, ""),
    )


@pytest.fixture(scope="module")
def sections(noise: KeptScans) -> dict:
    return protocols(noise, RECIPE, repeats=2, seed=0)


def test_only_the_grouped_protocol_sees_through_noise(sections: dict) -> None:
    score = {name: s["model"]["balanced_accuracy"]["mean"] for name, s in sections.items()}
    assert score["grouped"] < 0.7
    assert min(score["tutorial"], score["random_files"], score["distinct_images"]) > 0.85


def test_protocols_count_files_images_and_groups(sections: dict) -> None:
    assert {name: s["scans"] for name, s in sections.items()} == {
        "tutorial": 120, "random_files": 120, "distinct_images": 80, "grouped": 80,
    }  # fmt: skip
    assert sections["grouped"]["groups"] == 40
    for section in sections.values():
        assert set(section["baselines"]) == set(BASELINES)
        for measure in ("accuracy", "balanced_accuracy", "roc_auc", "sensitivity", "specificity"):
            row = section["model"][measure]
            low, high = row["ci95"]
            assert 0 <= low <= high <= 1
            assert row["spread"] >= 0


def _rare(rare: int) -> KeptScans:
    """Return scans of which a sixth are of one class, with more features than scans."""
    rng = np.random.default_rng(3)
    labels = np.where(np.arange(240) % 6 == 0, rare, 1 - rare).astype(np.int64)
    vectors = rng.normal(size=(240, 1, 500)) + 0.15 * labels[:, np.newaxis, np.newaxis]
    return KeptScans(
        vectors=vectors.astype(np.float32),
        labels=labels,
        groups=np.arange(240).astype(str),
        copies=np.ones(240, dtype=np.int64),
        measured={name: rng.normal(size=(240, 2)) for name in BASELINES},
        classes=("adenocarcinoma", "normal"),
        sources=np.full(240, ""),
    )


def test_the_served_threshold_reaches_its_sensitivity_on_scans_it_was_not_chosen_on() -> None:
    """A rare disease: the likeliest class is mostly healthy, and the threshold makes up for it."""
    grouped = protocols(_rare(0), RECIPE, repeats=2, seed=0)["grouped"]
    likeliest, served = grouped["model"], grouped["model_at_threshold"]
    assert served["sensitivity"]["mean"] >= RECIPE.sensitivity
    assert served["roc_auc"] == likeliest["roc_auc"]
    assert served["sensitivity"]["mean"] > likeliest["sensitivity"]["mean"] + 0.1
    assert served["balanced_accuracy"]["mean"] > likeliest["balanced_accuracy"]["mean"]


def test_the_served_threshold_calls_nothing_healthy_that_is_likelier_diseased() -> None:
    """A rare healthy class: a threshold above one half would find more of it, at that price."""
    grouped = protocols(_rare(1), RECIPE, repeats=2, seed=0)["grouped"]
    likeliest, served = grouped["model"], grouped["model_at_threshold"]
    assert served["sensitivity"]["mean"] >= likeliest["sensitivity"]["mean"]
    assert served["specificity"]["mean"] <= likeliest["specificity"]["mean"]


def test_more_diseases_than_one_have_intervals_and_a_threshold(noise: KeptScans) -> None:
    three = dataclasses.replace(
        noise, classes=("adenocarcinoma", "normal", "squamous"), labels=np.arange(80) // 2 % 3
    )
    row = protocols(three, RECIPE, repeats=1, seed=0)["distinct_images"]["model"]["sensitivity"]
    low, high = row["ci95"]
    assert low <= row["mean"] <= high


def test_held_out_scans_are_flagged_when_their_groups_are_unlike_the_others(
    noise: KeptScans,
) -> None:
    scans = dataclasses.replace(noise, vectors=noise.vectors + np.float32(20))
    strange = scans.vectors.copy()
    strange[:2] *= np.linspace(-1, 1, 60, dtype=np.float32)  # one patient of 40
    for vectors, share in ((scans.vectors, 0.0), (strange, 2 / 80)):
        shown = dataclasses.replace(scans, vectors=vectors)
        flagged = flagged_held_out(shown, 0.1, repeats=2, seed=0)
        assert flagged is not None
        assert flagged["mean"] == pytest.approx(share, abs=1e-9)


def test_majority_is_half_right_on_balance(sections: dict) -> None:
    majority = sections["grouped"]["baselines"]["majority"]
    assert majority["balanced_accuracy"]["mean"] == pytest.approx(0.5, abs=0.01)


def test_joining_all_but_a_few_groups_is_counted(noise: KeptScans) -> None:
    row = grouped_score(noise, np.repeat(np.arange(20), 4), RECIPE, repeats=1, seed=0)
    assert (row["groups"], row["largest_group"]) == (20, 4)


def test_summary_of_known_answers(noise: KeptScans) -> None:
    called = np.stack([noise.labels, noise.labels])
    called[1, noise.labels == 1] = 0
    measures = summary(noise, called, None, seed=0)
    assert measures["specificity"]["mean"] == pytest.approx(0.5)
    assert measures["specificity"]["spread"] == pytest.approx(0.5)
    # Every draw agrees, of 20 patients each: that is no certainty about others.
    assert measures["sensitivity"] == {
        "mean": 1.0, "spread": 0.0, "ci95": pytest.approx([0.8389, 1.0], abs=5e-5),
    }  # fmt: skip
    low, high = measures["balanced_accuracy"]["ci95"]
    assert 0.6 < low < 0.75 < high < 0.9


def test_bootstrap_draws_whole_groups() -> None:
    groups = np.array(["a", "a", "b", "c", "c", "c"])
    weights = group_weights(groups, seed=0)
    assert weights.shape == (DRAWS, 6)
    assert (weights[:, 0] == weights[:, 1]).all() and (weights[:, 3] == weights[:, 5]).all()
    assert (weights[:, [0, 2, 3]].sum(axis=1) == 3).all()


def test_interval_is_wider_when_scans_come_in_groups() -> None:
    right = np.repeat([1.0, 0.0] * 10, 5)
    widths = []
    for groups in (np.arange(100), np.repeat(np.arange(20), 5)):
        low, high = interval(weighted_share(group_weights(groups, 0), right)) or (0, 0)
        widths.append(high - low)
    assert widths[1] > 1.5 * widths[0]
    assert interval(np.full(10, np.nan)) is None


def test_weighted_auc_is_the_auc_of_what_was_drawn() -> None:
    rng = np.random.default_rng(0)
    positive, score = np.arange(30) % 3 > 0, rng.normal(size=30).round(1)  # ties, too
    weights = group_weights(np.arange(30) // 2, seed=0)
    areas = weighted_auc(weights, positive, np.stack([score, score, np.full(30, np.nan)]))
    for row in range(20):
        drawn = weights[row].astype(int)
        expected = roc_auc_score(positive.repeat(drawn), score.repeat(drawn))
        assert areas[row] == pytest.approx(expected)
