"""What an answer says in words does not contradict itself, in any corner."""

from __future__ import annotations

import pytest

from serve.answers import (
    disease_probability,
    kind_of_series,
    least_share,
    percent,
    why_label,
    why_series,
)

ELEVEN = {"scores": {"sensitivity": {"n": 39}, "specificity": {"n": 11}}}


def test_no_more_certainty_than_the_smaller_side_of_the_test_split_supports() -> None:
    assert least_share(ELEVEN) == 0.09  # one scan among twelve
    assert percent(0.9999, least_share(ELEVEN)) == "> 91 %"
    assert percent(0.0001, least_share(ELEVEN)) == "< 9 %"
    assert percent(0.324, least_share(ELEVEN)) == "32 %"
    assert least_share({"scores": None}) == 0.01
    assert percent(1.0) == "> 99 %"


@pytest.mark.parametrize(
    ("p", "threshold", "words"),
    [
        (0.676, 0.706, "68 %, below the model's threshold of 71 %"),
        (0.70552, 0.70561, "70.55 %, below the model's threshold of 70.56 %"),
        (0.706, 0.706, "71 %, at or above the model's threshold of 71 %"),
    ],
)
def test_why_shows_the_digits_that_part_probability_and_threshold(
    p: float, threshold: float, words: str
) -> None:
    row = {"label": "normal", "p_cancer": p, "p_normal": 1 - p}
    assert words in why_label(row, {"threshold": threshold})


def test_a_disease_below_the_threshold_is_explained() -> None:
    row = {"label": "cancer", "p_cancer": 0.6, "p_normal": 0.4}
    assert why_label(row, {"threshold": 0.7}) == (
        "Probability of disease 60 %, below the model's threshold of 70 %; the label is a disease "
        "because a disease is the likeliest class."
    )


def test_benign_findings_are_no_disease() -> None:
    row = {"label": "normal", "p_benign": 0.2, "p_malignant": 0.3, "p_normal": 0.5}
    assert disease_probability(row, {}) == pytest.approx(0.3)
    assert disease_probability(row, {"healthy_classes": ["normal"]}) == pytest.approx(0.5)
    assert disease_probability({"label": "a", "p_a": 0.5, "p_b": 0.5}, {}) is None


def test_a_series_that_must_not_be_relied_on_says_so_first() -> None:
    answer = {"label": "cancer", "probability": 0.8, "scored": 9, "out_of_domain_share": 0.6}
    assert kind_of_series(answer) == "out_of_domain"
    assert kind_of_series(answer | {"out_of_domain_share": 0.5}) == "answered"
    assert kind_of_series(answer | {"out_of_domain_share": None, "undecided": True}) == "undecided"
    untrained = answer | {"label": None, "error": "This model was trained without series."}
    assert kind_of_series(untrained) == "unanswered"
    assert kind_of_series(untrained | {"scored": 0}) == "failed"
    about = {"series_threshold": 0.41, **ELEVEN}
    of_series = {"scores": {"series": {"series": {"n": 9, "diseased": 6}}}}
    assert why_series(answer, of_series) == "Probability of disease > 75 %."  # of three healthy
    assert why_series(answer, about) == (
        "Probability of disease 80 %, at or above the series' threshold of 41 %."
    )
