"""The gate to Production that asks for a score where the model was not trained."""

from __future__ import annotations

import json

from steps.gates.external import external_gate


def _tag(area: float, low: float) -> str:
    return json.dumps({"roc_auc": area, "roc_auc_ci95": [low, 1.0], "scans": 300})


def test_without_an_external_set_it_fails_and_shows_the_command() -> None:
    gate = external_gate(3, "chest-ct", {"phantom": "false"}, 0.5)
    assert gate.passed is False
    assert "mlflow run . -e external_evaluation -P model_uri=models:/chest-ct/3" in gate.sentence


def test_one_class_is_not_enough() -> None:
    tag = json.dumps({"roc_auc": None, "roc_auc_ci95": None, "scans": 12})
    gate = external_gate(3, "chest-ct", {"external.covid": tag}, 0.5)
    assert gate.passed is False and "one class each" in gate.sentence


def test_the_lower_bound_decides() -> None:
    assert external_gate(1, "m", {"external.a": _tag(0.8, 0.51)}, 0.5).passed
    assert external_gate(1, "m", {"external.a": _tag(0.8, 0.49)}, 0.5).passed is False


def test_the_worst_of_several_sets_decides() -> None:
    tags = {"external.a": _tag(0.9, 0.85), "external.b": _tag(0.6, 0.45)}
    gate = external_gate(1, "m", tags, 0.5)
    assert gate.passed is False and "of b," in gate.sentence and "2 external sets" in gate.sentence
