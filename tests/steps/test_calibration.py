"""Temperature, reliability and the operating threshold."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from model.decision import probabilities
from steps.training.calibration import (
    TEMPERATURES,
    calibrate,
    calibration_scores,
    expected_calibration_error,
    fit_temperature,
    held_out_coverage,
    reliability,
    without_temperature,
)
from steps.training.threshold import floor_threshold, lower_bound, threshold_for_sensitivity
from tests.steps.test_cross_validation import scans

RNG = np.random.default_rng(0)


def drawn(n: int, sure: float) -> tuple[np.ndarray, np.ndarray]:
    """Return logits that are `sure` times too large, and classes drawn from the true ones."""
    true = RNG.normal(0, 2, (n, 2))
    p = probabilities(true.astype(np.float32))
    actual = (RNG.random(n) < p[:, 1]).astype(np.int64)
    return (true * sure).astype(np.float32), actual


@pytest.mark.parametrize("sure", [0.5, 3.0])
def test_temperature_undoes_false_confidence(sure: float) -> None:
    logits, actual = drawn(4000, sure)
    temperature = fit_temperature(logits, actual)
    assert temperature == pytest.approx(sure, rel=0.15)
    before = calibration_scores(probabilities(logits), actual)
    after = calibration_scores(probabilities(logits, temperature), actual)
    assert after["ece"] < before["ece"]
    assert after["loss"] < before["loss"]


def test_temperature_stays_in_bounds_without_a_mistake() -> None:
    logits = np.array([[1.0, -1.0], [-1.0, 1.0]] * 20, dtype=np.float32)
    assert fit_temperature(logits, np.array([0, 1] * 20)) >= TEMPERATURES[0]


def test_probabilities_before_the_temperature_come_back() -> None:
    logits, _ = drawn(50, 1.0)
    p = probabilities(logits, 2.5)
    assert without_temperature(p, 2.5) == pytest.approx(probabilities(logits), abs=1e-5)


def test_calibration_error_by_hand() -> None:
    p = np.array([[0.9, 0.1]] * 10 + [[0.4, 0.6]] * 10)
    actual = np.array([0] * 8 + [1] * 2 + [1] * 6 + [0] * 4)
    rows = reliability(p, actual)
    assert [row["n"] for row in rows] == [10, 10]
    assert [row["accuracy"] for row in rows] == pytest.approx([0.6, 0.8])
    assert expected_calibration_error(p, actual) == pytest.approx(0.05)


def test_threshold_is_the_highest_that_reaches_the_sensitivity() -> None:
    p = np.array([0.9, 0.8, 0.7, 0.2, 0.95, 0.1])
    sick = np.array([True, True, True, True, False, False])
    assert threshold_for_sensitivity(p, sick, 0.75) == pytest.approx(0.7)
    assert threshold_for_sensitivity(p, sick, 0.76) == pytest.approx(0.2)
    assert (p[sick] >= threshold_for_sensitivity(p, sick, 1.0)).all()


def test_calibrates_on_held_out_groups() -> None:
    vectors, labels = scans(120, 0, gap=1.0)
    groups = np.arange(120).astype(str)
    found = calibrate(
        vectors, labels, groups, ("adenocarcinoma", "normal"),
        l2=0.01, balanced=True, sensitivity=0.9, seed=0,
    )  # fmt: skip
    assert found.report["sensitivity"]["value"] >= 0.9
    low, high = found.report["threshold_spread"]
    assert low <= found.threshold + 1e-4 and found.threshold <= high + 1e-4
    assert found.report["after"]["loss"] <= found.report["before"]["loss"] + 1e-9


def test_no_threshold_without_a_healthy_class_and_none_without_groups() -> None:
    vectors, labels = scans(120, 0)
    options = {"l2": 0.01, "balanced": True, "sensitivity": 0.9, "seed": 0}
    groups = np.arange(120).astype(str)
    assert calibrate(vectors, labels, groups, ("a", "b"), **options).threshold is None
    few = calibrate(vectors, labels, labels.astype(str), ("a", "normal"), **options)
    assert (few.temperature, few.threshold) == (1.0, None)


def test_the_floor_is_kept_with_confidence_or_said_to_be_unproven() -> None:
    rng = np.random.default_rng(0)
    p = np.concatenate([rng.beta(6, 2, 300), rng.beta(2, 6, 100)])
    sick = np.arange(400) < 300
    groups = np.arange(400).astype(str)
    many = floor_threshold(p, sick, groups, 0.9)
    plain = threshold_for_sensitivity(p, sick, 0.9)
    assert many.reached and many.lower_bound >= 0.9
    assert many.threshold < plain  # a floor with confidence lies below the point estimate
    assert (p[sick] >= many.threshold).mean() > 0.9
    assert many.groups == pytest.approx(300)
    in_tens = floor_threshold(p, sick, (np.arange(400) // 10).astype(str), 0.9)
    assert in_tens.groups == pytest.approx(30)
    assert in_tens.threshold < many.threshold  # thirty patients say less than 300
    few = floor_threshold(p, sick, (np.arange(400) // 100).astype(str), 0.9)
    assert not few.reached and few.lower_bound < 0.9
    assert few.threshold <= plain


def test_the_stored_threshold_is_never_above_one_half() -> None:
    p = np.concatenate([np.linspace(0.9, 1, 200), np.zeros(50)])
    floor = floor_threshold(p, np.arange(250) < 200, np.arange(250).astype(str), 0.95)
    assert floor.threshold == 0.5 and floor.reached


def test_the_lower_bound_is_clopper_and_pearsons() -> None:
    expected = binomtest(95, 100).proportion_ci(0.90, method="exact").low
    assert lower_bound(np.array([0.95]), 100)[0] == pytest.approx(expected)
    assert lower_bound(np.array([0.0]), 100)[0] == 0
    assert lower_bound(np.array([1.0]), 59)[0] == pytest.approx(0.05 ** (1 / 59))


def test_prediction_sets_of_held_out_groups_cover_what_they_promise() -> None:
    rng = np.random.default_rng(0)
    labels = (np.arange(600) % 3 == 0).astype(np.int64)
    logits = np.stack([np.zeros(600), rng.normal(0, 1.5, 600) + 2 * labels - 1], axis=1)
    found = held_out_coverage(
        probabilities(logits.astype(np.float32)), labels, np.arange(600).astype(str),
        ("adenocarcinoma", "normal"), 0.1, seed=0,
    )  # fmt: skip
    assert found is not None and found["error_rate"] == 0.1
    for share in found["coverage"].values():
        assert share["value"] == pytest.approx(0.9, abs=0.05)
    assert 0.1 < found["undecided"]["value"] < 0.9
    assert found["coverage"]["normal"]["n"] == 200


def test_calibration_stores_prediction_sets_per_class() -> None:
    vectors, labels = scans(120, 0, gap=1.0)
    found = calibrate(
        vectors, labels, np.arange(120).astype(str), ("adenocarcinoma", "normal"),
        l2=0.01, balanced=True, sensitivity=0.9, seed=0, undecided_error_rate=0.2,
    )  # fmt: skip
    assert found.conformal is not None and found.conformal.error_rate == 0.2
    assert len(found.conformal.quantiles) == 2
    assert set(found.report["undecided"]["coverage"]) == {"adenocarcinoma", "normal"}
    assert found.report["sensitivity_floor"]["threshold"] == found.threshold
