"""Scores on a set of scans that a model was not made from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score

from steps.evaluation.external_scores import external_scores


def _set(n: int = 60, **changes: Any) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    diseased = np.arange(n) % 3 > 0
    p = np.clip(0.35 + 0.3 * diseased + 0.2 * rng.standard_normal(n), 0.01, 0.99)
    arguments: dict[str, Any] = {
        "diseased": diseased,
        "p_disease": p,
        "called_diseased": p >= 0.5,
        "out_of_domain": np.arange(n) % 10 == 0,
        "undecided": np.abs(p - 0.5) < 0.1,
        "groups": np.array([f"g{i // 2}" for i in range(n)]),
        "threshold": 0.5,
        "prevalences": [0.01, 0.3],
    }
    return arguments | changes


def test_measures_are_those_of_scikit_learn() -> None:
    given = _set()
    scores = external_scores(**given)
    area = roc_auc_score(given["diseased"], given["p_disease"])
    assert scores["roc_auc"]["value"] == pytest.approx(area)
    low, high = scores["roc_auc"]["ci95"]
    assert low < area < high
    brier = brier_score_loss(given["diseased"], given["p_disease"])
    assert scores["calibration"]["brier"]["value"] == pytest.approx(brier)
    inside = ~given["out_of_domain"]
    without = roc_auc_score(given["diseased"][inside], given["p_disease"][inside])
    assert scores["in_domain"]["roc_auc"]["value"] == pytest.approx(without)
    assert scores["in_domain"]["scans"] == inside.sum()
    assert scores["decided"]["scans"] == (inside & ~given["undecided"]).sum()


def test_predictive_values_follow_bayes() -> None:
    scores = external_scores(**_set())
    se, sp = scores["sensitivity"]["value"], scores["specificity"]["value"]
    row = scores["at_prevalence"][0]
    assert row["ppv"]["value"] == pytest.approx(0.01 * se / (0.01 * se + 0.99 * (1 - sp)))
    assert row["npv"]["value"] == pytest.approx(0.99 * sp / (0.99 * sp + 0.01 * (1 - se)))
    assert row["net_benefit"]["value"] == pytest.approx(0.01 * se - 0.99 * (1 - sp))
    assert row["net_benefit_if_all_are_called_diseased"] == pytest.approx(0.01 - 0.99)


def test_one_class_gives_its_rate_and_no_more() -> None:
    n = 20
    scores = external_scores(**_set(n, diseased=np.ones(n, dtype=bool)))
    assert scores["roc_auc"] == {"value": None, "ci95": None}
    assert scores["specificity"]["value"] is None and scores["balanced_accuracy"]["value"] is None
    assert 0 <= scores["sensitivity"]["value"] <= 1 and scores["sensitivity"]["n"] == n
    assert scores["at_prevalence"][0]["ppv"]["value"] is None


def test_an_interval_by_group_is_wider_where_scans_of_a_group_agree() -> None:
    few = _set(30)
    together = {
        name: np.repeat(few[name], 10)
        for name in ("diseased", "p_disease", "called_diseased", "out_of_domain", "undecided")
    }
    by_group = external_scores(**_set(**together, groups=np.repeat(np.arange(30), 10).astype(str)))
    by_scan = external_scores(**_set(**together, groups=np.arange(300).astype(str)))

    def width(scores: dict[str, Any]) -> float:
        low, high = scores["balanced_accuracy"]["ci95"]
        return float(high - low)

    assert width(by_group) > 2 * width(by_scan)
    assert by_group["groups"] == 30 and by_scan["groups"] == 300


def test_all_right_is_not_certain() -> None:
    scores = external_scores(**_set(called_diseased=_set()["diseased"]))
    low, high = scores["sensitivity"]["ci95"]
    assert scores["sensitivity"]["value"] == high == 1 and 0.8 < low < 0.95


def test_a_model_without_undecided_has_none() -> None:
    scores = external_scores(**_set(undecided=None))
    assert scores["undecided"] is None and scores["decided"] is None


def test_one_group_is_one_observation() -> None:
    """Of one patient's slices 3 in 4 are found: that is no certainty about patients."""
    n = 8
    scores = external_scores(
        **_set(
            n,
            diseased=np.arange(n) < 4,
            called_diseased=np.arange(n) < 3,
            groups=np.array(["one"] * 4 + ["a", "a", "b", "b"]),
        )
    )
    low, high = scores["sensitivity"]["ci95"]
    assert scores["sensitivity"]["value"] == 0.75 and low < 0.2 and high > 0.95
    low, high = scores["specificity"]["ci95"]  # all right, of two groups
    assert (low, high) == (pytest.approx(0.342, abs=1e-3), 1.0)
