"""Probabilities to a label: thresholds, healthy classes, and what a stored threshold may not do."""

from __future__ import annotations

import numpy as np
import pytest

from model.decision import disease_probability, healthy_classes, healthy_indices, labels

FOUR = ("adenocarcinoma", "large.cell", "normal", "squamous")
IQ = ("benign", "malignant", "normal")


def named(p: list[float], classes: tuple[str, ...], *args: object, **options: object) -> str:
    return classes[labels(np.array([p]), classes, *args, **options)[0]]  # type: ignore[arg-type]


def test_a_stored_threshold_calls_nothing_healthy_whose_likeliest_class_is_a_disease() -> None:
    p = [0.4, 0.15, 0.35, 0.1]
    assert named(p, FOUR, 0.9, stored=True) == "adenocarcinoma"
    assert named(p, FOUR, 0.9) == "normal"  # one given with a request may
    assert named([0.1, 0.1, 0.7, 0.1], FOUR, 0.9, stored=True) == "normal"
    assert named([0.1, 0.2, 0.6, 0.1], FOUR, 0.3, stored=True) == "large.cell"


def test_a_benign_finding_is_no_disease() -> None:
    assert healthy_classes(IQ) == ["benign", "normal"]
    assert disease_probability(np.array([[0.3, 0.2, 0.5]]), IQ) == pytest.approx([0.2])
    assert named([0.3, 0.2, 0.5], IQ, 0.4, stored=True) == "normal"
    assert named([0.5, 0.2, 0.3], IQ, 0.4, stored=True) == "benign"
    assert named([0.3, 0.4, 0.3], IQ, 0.5, stored=True) == "malignant"  # the likeliest
    assert named([0.2, 0.3, 0.5], IQ, 0.25, stored=True) == "malignant"
    assert healthy_classes(("Bengin cases", "Malignant cases", "Normal")) == [
        "Bengin cases",
        "Normal",
    ]


def test_healthy_classes_by_pattern_in_any_case_of_letters() -> None:
    classes = ("Clear", "clear old", "tumour")
    assert healthy_classes(classes, ["clear*"]) == ["Clear", "clear old"]
    assert healthy_indices(classes, ("Clear", "clear old")) == [0, 1]
    assert named([0.3, 0.3, 0.4], classes, 0.5, ("Clear", "clear old")) == "Clear"
    assert named([0.2, 0.2, 0.6], classes, 0.5, ("Clear", "clear old")) == "tumour"


def test_without_a_healthy_class_the_likeliest_answers() -> None:
    assert healthy_classes(("a", "benign lump")) == []
    assert named([0.7, 0.3], ("a", "benign lump"), 0.1) == "a"
    assert disease_probability(np.array([[0.7, 0.3]]), ("a", "b")).tolist() == [0.3]
