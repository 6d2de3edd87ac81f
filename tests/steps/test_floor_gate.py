"""The gate that asks whether the stated sensitivity is kept, and which classes are no disease."""

from __future__ import annotations

import json

import pytest

from steps.errors import StageError
from steps.gates.floor import SCORES, SENSITIVITY, sensitivity_floor_gate
from steps.training.__main__ import healthy_of

KEPT = {SCORES + "stated": "0.95", SCORES + "value": "0.949", SCORES + "upper_bound": "0.986"}


def test_a_floor_that_is_missed_within_chance_passes_and_says_so() -> None:
    gate = sensitivity_floor_gate(KEPT)
    assert gate is not None and gate.passed
    assert "within chance" in gate.sentence and "0.949" in gate.sentence


def test_the_floor_is_read_from_the_test_splits_sensitivity() -> None:
    """As versions have it whose tags are a dozen."""
    few = {SCORES + "stated": "0.95", SENSITIVITY: "0.9", SCORES + "upper_bound": "0.98"}
    gate = sensitivity_floor_gate(few)
    assert gate is not None and gate.passed
    assert gate.numbers == {"sensitivity": 0.9, "upper_bound": 0.98, "stated": 0.95}


def test_a_floor_that_is_surely_missed_fails() -> None:
    gate = sensitivity_floor_gate(
        KEPT | {SCORES + "value": "0.762", SCORES + "upper_bound": "0.81"}
    )
    assert gate is not None and gate.passed is False
    assert "missed beyond chance" in gate.sentence


def test_an_external_set_that_misses_the_floor_fails() -> None:
    elsewhere = {"sensitivity": 0.6, "sensitivity_ci95": [0.5, 0.7], "scans": 90}
    gate = sensitivity_floor_gate(KEPT | {"external.iq": json.dumps(elsewhere)})
    assert gate is not None and gate.passed is False and "iq" in gate.sentence


def test_a_version_that_states_no_sensitivity_has_no_such_gate() -> None:
    assert sensitivity_floor_gate({}) is None


def test_healthy_classes_are_found_by_pattern_and_mistakes_are_named() -> None:
    assert healthy_of(("benign", "malignant", "Normal"), "normal") == ("benign", "Normal")
    assert healthy_of(("a", "b"), "normal") == ()
    assert healthy_of(("clear", "tumour"), "cl*") == ("clear",)
    with pytest.raises(StageError, match="no class fits cyst"):
        healthy_of(("a", "normal"), "normal;cyst")
    with pytest.raises(StageError, match="every class is healthy"):
        healthy_of(("benign", "normal"), "normal")
