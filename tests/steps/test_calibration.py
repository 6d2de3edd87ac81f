"""Temperature, reliability and the operating threshold."""

from __future__ import annotations

import numpy as np
import pytest

from model.decision import probabilities
from steps.training.calibration import (
    TEMPERATURES,
    calibrate,
    calibration_scores,
    expected_calibration_error,
    fit_temperature,
    reliability,
    threshold_for_sensitivity,
    without_temperature,
)
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
