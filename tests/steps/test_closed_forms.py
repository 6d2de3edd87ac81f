"""Intervals of few observations: as in the literature, and with a width where all are right."""

from __future__ import annotations

import numpy as np
import pytest

from steps.evaluation.external_scores import external_scores
from steps.evaluation.intervals import group_intervals
from steps.training.bootstrap import interval_or
from steps.training.closed_forms import Z, area_interval, mean_interval, share_interval
from steps.training.threshold import operating_point


def test_a_share_has_wilsons_interval() -> None:
    # Newcombe 1998, Statistics in Medicine 17, table I: 81 of 263, and 0 of 20.
    assert share_interval(81 / 263, 263) == pytest.approx([0.2553, 0.3662], abs=5e-5)
    assert share_interval(0, 20) == pytest.approx([0.0, 0.1611], abs=5e-5)


def test_an_area_of_one_pair_is_a_share_of_one() -> None:
    for area in (0.0, 0.5, 1.0):
        assert area_interval(area, 1, 1) == pytest.approx(share_interval(area, 1), abs=1e-9)


@pytest.mark.parametrize(("area", "positives", "negatives"), [(1.0, 12, 36), (0.8, 39, 11)])
def test_the_ends_are_where_the_score_test_turns(
    area: float, positives: int, negatives: int
) -> None:
    """Over a fine grid: no area inside is refused at 5 %, and every one outside is."""
    grid = np.linspace(1e-4, 1 - 1e-4, 9999)
    one, two = grid / (2 - grid), 2 * grid**2 / (1 + grid)  # Hanley & McNeil 1982
    half = (positives + negatives) / 2 - 1
    variance = grid * (1 - grid) + half * ((one - grid**2) + (two - grid**2))
    kept = (area - grid) ** 2 * positives * negatives <= Z**2 * variance
    low, high = area_interval(area, positives, negatives)
    assert [grid[kept].min(), min(1.0, grid[kept].max() + 1e-4)] == pytest.approx(
        [low, high], abs=2e-4
    )


def test_a_perfect_area_is_less_sure_of_fewer_and_mirrors() -> None:
    lows = [area_interval(1.0, n, n)[0] for n in (2, 10, 100, 1000)]
    assert lows == sorted(lows) and lows[0] < 0.6 and 0.99 < lows[-1] < 1
    low, high = area_interval(0.7, 8, 30)
    assert area_interval(0.3, 8, 30) == pytest.approx([1 - high, 1 - low])


def test_a_mean_is_as_wide_as_its_parts_add_up() -> None:
    part = share_interval(1.0, 10)
    low, high = mean_interval([1.0, 1.0], [part, part])
    assert high == 1.0
    assert low == pytest.approx(1 - (1 - part[0]) / 2**0.5)
    assert mean_interval([0.8], [[0.6, 0.9]]) == pytest.approx([0.6, 0.9])


def test_the_bootstrap_is_taken_where_it_has_a_width() -> None:
    draws = np.linspace(0, 1, 1001)
    assert interval_or(draws, lambda: [9.0, 9.0]) == pytest.approx([0.025, 0.975])
    assert interval_or(np.ones(50), lambda: [0.5, 1.0]) == [0.5, 1.0]
    assert interval_or(np.full(50, np.nan), lambda: [0.5, 1.0]) is None


GROUPS = np.array([f"g{i // 3}" for i in range(36)])  # three scans of a patient
SICK = np.arange(36) < 18


def test_a_perfect_model_is_not_certain_elsewhere() -> None:
    scores = external_scores(
        SICK, SICK * 0.8 + 0.1, SICK, np.zeros(36, bool), None, GROUPS, 0.5, []
    )
    assert scores["roc_auc"]["value"] == 1.0
    assert scores["roc_auc"]["ci95"] == pytest.approx(area_interval(1.0, 6, 6))
    assert scores["roc_auc"]["ci95"][0] < 0.8
    low, high = scores["balanced_accuracy"]["ci95"]
    assert high == 1.0 and 0.6 < low < 0.8


def test_missing_nothing_is_no_certainty_about_who_is_cleared() -> None:
    called = np.arange(36) < 24  # all diseased, and two of six healthy patients
    scores = external_scores(
        SICK, called * 0.8 + 0.1, called, np.zeros(36, bool), None, GROUPS, 0.5, [0.3]
    )
    (row,) = scores["at_prevalence"]
    low, high = row["npv"]["ci95"]
    missed = 1 - scores["sensitivity"]["ci95"][0]
    cleared = scores["specificity"]["ci95"][0]
    assert row["npv"]["value"] == high == 1.0
    assert low == pytest.approx(0.7 * cleared / (0.7 * cleared + 0.3 * missed))
    assert row["ppv"]["ci95"][0] < row["ppv"]["value"] < row["ppv"]["ci95"][1]  # the bootstrap's


def test_one_patient_has_no_interval_of_a_brier_score() -> None:
    one = np.array(["p"] * 36)
    scores = external_scores(
        SICK, SICK * 0.4 + 0.3, SICK, np.zeros(36, bool), None, one, 0.5, [0.3]
    )
    assert scores["calibration"]["brier"]["ci95"] is None
    assert scores["roc_auc"]["ci95"] == pytest.approx(area_interval(1.0, 1, 1))


@pytest.mark.parametrize("classes", [("tumour", "normal"), ("a", "b", "normal")])
def test_a_perfect_model_is_not_certain_on_its_test_split(classes: tuple[str, ...]) -> None:
    actual = np.arange(36) // 3 % len(classes)
    p = np.full((36, len(classes)), 0.1)
    p[np.arange(36), actual] = 1 - 0.1 * (len(classes) - 1)
    found = group_intervals(actual, actual, p, GROUPS, classes)
    for name in ("roc_auc_ci95", "balanced_accuracy_ci95"):
        low, high = found[name]
        assert high == 1.0 and 0.5 < low < 0.9, name
    of_class = 12 // len(classes)
    assert found["roc_auc_ci95"] == pytest.approx(area_interval(1.0, of_class, 12 - of_class))


def test_a_perfect_operating_point_is_not_certain() -> None:
    found = operating_point(SICK, SICK, GROUPS, seed=0)
    for name in ("sensitivity", "specificity"):
        assert found[name] == {"value": 1.0, "ci95": pytest.approx(share_interval(1.0, 6))}
