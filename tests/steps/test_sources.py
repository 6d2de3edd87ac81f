"""Scores by source: what leaving a source out shows, and what the audit finds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.artefact import Head
from steps.evaluation.sources import leave_one_source_out, shortcut_audit
from steps.training.cross_validation import solve_head

CLASSES = ("adenocarcinoma", "normal")


def _fit(features: NDArray[np.float32], labels: NDArray[np.int64], classes: int) -> Head:
    return solve_head(features, labels, classes, 0.1, True)


def _scans(disease: float, by_source: float) -> dict[str, NDArray]:
    """Two sources of 60 scans, two of a group; source b is mostly healthy."""
    rng = np.random.default_rng(2)
    sources = np.repeat(["a", "b"], 60)
    labels = np.where(rng.random(60) < np.where(sources[::2] == "a", 0.2, 0.8), 1, 0).repeat(2)
    features = rng.normal(size=(120, 8))
    features[:, 0] += disease * labels
    features[:, 1] += by_source * (sources == "b")
    return {
        "features": features.astype(np.float32),
        "labels": labels.astype(np.int64),
        "groups": np.arange(60).repeat(2).astype(str),
        "sources": sources,
    }


def test_what_carries_over_is_seen_on_the_source_left_out() -> None:
    scans = _scans(disease=4, by_source=0)
    result = leave_one_source_out(**scans, classes=CLASSES, fit=_fit, healthy=[1], seed=0)
    assert result is not None and set(result) == {"a", "b"}
    assert result["a"]["trained_on"] == ["b"] and result["a"]["scans"] == 60
    assert min(row["roc_auc"]["value"] for row in result.values()) > 0.95


def test_a_model_that_answers_by_source_fails_on_the_source_left_out() -> None:
    scans = _scans(disease=0, by_source=6)
    result = leave_one_source_out(**scans, classes=CLASSES, fit=_fit, healthy=[1], seed=0)
    assert result is not None
    assert max(row["roc_auc"]["value"] for row in result.values()) < 0.75


def test_one_source_with_both_sides_is_too_few() -> None:
    scans = _scans(disease=4, by_source=0)
    scans["labels"] = np.where(scans["sources"] == "b", 1, scans["labels"])
    assert leave_one_source_out(**scans, classes=CLASSES, fit=_fit, healthy=[1], seed=0) is None


def test_a_group_in_two_sources_does_not_train_for_itself() -> None:
    scans = _scans(disease=4, by_source=0)
    scans["groups"] = np.where(np.arange(120) < 118, "everywhere", scans["groups"])
    assert leave_one_source_out(**scans, classes=CLASSES, fit=_fit, healthy=[1], seed=0) is None


def test_the_audit_tells_a_source_that_gives_itself_away() -> None:
    rng = np.random.default_rng(0)
    scans = _scans(disease=0, by_source=6)
    bright = scans["labels"][:, np.newaxis] + 0.1 * rng.normal(size=(120, 1))
    measured = {"brightness": bright, "framing": rng.normal(size=(120, 2))}
    audit = shortcut_audit(**scans, measured=measured, fit=_fit, seed=0)
    assert audit["source_from_features"]["balanced_accuracy"] > 0.95
    assert audit["class_from_source"]["balanced_accuracy"] > 0.7
    assert audit["class_from"]["brightness"]["balanced_accuracy"] > 0.95
    assert audit["class_from"]["framing"]["balanced_accuracy"] < 0.65
    assert audit["sources"]["a"]["scans"] == 60


def test_the_audit_of_one_source_names_none() -> None:
    scans = _scans(disease=4, by_source=0) | {"sources": np.full(120, "only")}
    audit = shortcut_audit(**scans, measured={}, fit=_fit, seed=0)
    assert audit["source_from_features"] is None and audit["class_from_source"] is None
