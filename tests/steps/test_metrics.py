"""Scores against hand-made predictions with known answers."""

from __future__ import annotations

import json

import numpy as np
import pytest

from steps.metrics import balanced_accuracy, roc_auc, scores
from steps.training.proportions import wilson_interval

TWO = ("adenocarcinoma", "normal")
FOUR = ("adenocarcinoma", "large cell", "normal", "squamous")


def test_wilson_interval_is_that_of_the_literature() -> None:
    # Newcombe 1998, Statistics in Medicine 17, table I: 81 of 263.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson_interval(0, 0) is None


def test_two_classes_are_scored_from_the_side_of_disease() -> None:
    actual = np.array([0, 0, 0, 1, 1])
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6], [0.2, 0.8]])
    result = scores(actual, p.argmax(axis=1), p, TWO)
    assert result["accuracy"] == 0.8
    assert result["sensitivity"]["value"] == pytest.approx(2 / 3)
    assert result["specificity"]["value"] == 1.0
    assert result["positive"] == ["adenocarcinoma"]
    assert result["roc_auc"] == pytest.approx(5 / 6)
    assert result["loss"] == pytest.approx(-np.log([0.9, 0.8, 0.3, 0.6, 0.8]).mean())
    assert result["confusion_matrix"]["rows_actual_columns_predicted"] == [[2, 1], [0, 2]]
    json.dumps(result, allow_nan=False)


def test_four_classes_have_a_row_each_and_one_auc() -> None:
    rng = np.random.default_rng(0)
    actual = np.arange(40) % 4
    p = rng.dirichlet(np.ones(4), 40)
    result = scores(actual, p.argmax(axis=1), p, FOUR)
    assert list(result["per_class"]) == list(FOUR)
    assert sum(row["n"] for row in result["per_class"].values()) == 40
    mean = np.mean([row["roc_auc"] for row in result["per_class"].values()])
    assert result["roc_auc"] == pytest.approx(mean)
    assert result["positive"] == ["adenocarcinoma", "large cell", "squamous"]
    json.dumps(result, allow_nan=False)


def test_what_the_data_cannot_tell_is_null() -> None:
    p = np.array([[0.9, 0.1], [0.6, 0.4]])
    result = scores(np.array([0, 0]), np.array([0, 0]), p, TWO)
    assert result["roc_auc"] is None
    assert result["specificity"]["value"] is None
    json.dumps(result, allow_nan=False)


def test_balanced_accuracy_does_not_reward_the_majority() -> None:
    actual = np.array([0] * 9 + [1])
    assert balanced_accuracy(actual, np.zeros(10, np.int64)) == 0.5


def test_auc_is_that_of_the_ranks() -> None:
    actual = np.array([1, 1, 0, 0])
    p = np.array([[0.1, 0.9], [0.6, 0.4], [0.5, 0.5], [0.9, 0.1]])
    assert roc_auc(actual, p, TWO) == 0.75


@pytest.mark.parametrize("classes", [2, 3])
def test_brier_is_the_mean_squared_distance_to_the_class(classes: int) -> None:
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(classes), 50)
    actual = rng.integers(0, classes, 50)
    names = ["adenocarcinoma", "normal", "squamous"][:classes]
    by_hand = ((p - np.eye(classes)[actual]) ** 2).sum(axis=1).mean()
    assert scores(actual, p.argmax(axis=1), p, names)["brier"] == pytest.approx(by_hand)


def test_balanced_accuracy_takes_names_and_answers_of_no_class() -> None:
    assert balanced_accuracy(["a", "a", "b"], ["a", "", "b"]) == pytest.approx(0.75)
