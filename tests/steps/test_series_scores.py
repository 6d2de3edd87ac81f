"""Scores of answers about series and patients, and of where the key slices lie."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score

from steps.evaluation.external_record import headline_numbers
from steps.evaluation.report import page
from steps.evaluation.series_scores import KnownSlices, series_section
from steps.headline import series_lines
from tests.steps.series_answers import SERIES, answers, known


def section(**changes: Any) -> dict[str, Any]:
    table = answers()
    for name, values in changes.items():
        table[name] = pd.Series(values, dtype=object)
    return series_section(table, known(), ["normal"], 0.4)


def test_a_series_is_diseased_if_any_of_its_slices_is() -> None:
    scored = section()["series"]
    truth = [series.diseased for series in SERIES]
    p = [series.p for series in SERIES]
    assert scored["n"] == len(SERIES) and scored["diseased"] == sum(truth) == 3
    assert scored["roc_auc"]["value"] == pytest.approx(roc_auc_score(truth, p))
    # a, b and d are diseased; c is called so, d is not.
    assert scored["sensitivity"]["value"] == pytest.approx(2 / 3)
    assert scored["specificity"]["value"] == pytest.approx(2 / 3)
    assert scored["balanced_accuracy"]["value"] == pytest.approx(2 / 3)
    assert scored["calibration"]["brier"]["value"] == pytest.approx(brier_score_loss(truth, p))
    assert scored["undecided"]["all"]["successes"] == 1
    assert scored["out_of_domain"]["all"]["successes"] == 1  # f, of whose slices 3 of 4 are
    assert scored["decided"]["n"] == 4
    assert scored["groups"] == 5  # a and b are of one patient


def test_a_patient_gets_the_answer_of_the_series_with_the_highest_probability() -> None:
    result = section()
    scored = result["patients"]
    # a and b are p1's, of which b is the surer; f is nobody's.
    assert scored["n"] == 4 and result["without_patient"] == 1
    truth, p = [True, False, True, False], [0.9, 0.45, 0.35, 0.1]
    assert scored["roc_auc"]["value"] == pytest.approx(roc_auc_score(truth, p))
    assert scored["sensitivity"]["value"] == 0.5 and scored["specificity"]["value"] == 0.5
    assert scored["undecided"]["all"]["successes"] == 0  # a is undecided, and b speaks for p1


def test_another_slice_of_a_patient_tells_of_the_truth() -> None:
    slices = known()
    more = KnownSlices(
        series=[*slices.series, None],
        patients=[*slices.patients, "p4"],
        groups=np.array([*slices.groups, "g4"]),
        diseased=np.array([*slices.diseased, True]),
        lesion=np.array([*slices.lesion, False]),
        position_mm=np.array([*slices.position_mm, np.nan]),
    )
    result = series_section(answers(), more, ["normal"], 0.4)
    assert result["patients"]["diseased"] == 3 and result["series"]["diseased"] == 3


def test_counts_say_what_was_left_out_and_why() -> None:
    errors = [None] * len(SERIES)
    errors[2], errors[4] = "All of its slices failed.", "All of its slices failed."
    gone: dict[str, list[Any]] = {
        name: [None if errors[i] else value for i, value in enumerate(answers()[name])]
        for name in ("label", "p_cancer", "p_normal", "undecided", "key_slice")
    }
    result = section(error=errors, **gone)
    assert result["counts"] == {
        "series": 6, "answered": 4, "without_answer": 2, "slices": 24, "scored": 18,
        "skipped": 4, "failed": 2,
    }  # fmt: skip
    assert result["why_no_answer"] == [{"sentence": "All of its slices failed.", "series": 2}]
    assert result["series"]["n"] == 4 and result["series"]["diseased"] == 3
    assert json.loads(json.dumps(result)) == result


def test_how_often_the_key_slice_shows_the_lesion_and_by_chance() -> None:
    key = section()["key_slice"]
    # a and d have a lesion on 2 of 4 slices, b on 1; only the key slices of a and b show it.
    assert key["series"] == 3
    assert key["within"]["value"] == pytest.approx(2 / 3)
    assert key["by_chance"] == pytest.approx((2 + 1 + 2) / 12)
    assert key["above_chance"]["value"] == pytest.approx(2 / 3 - 5 / 12)
    # By position, not by place: of a and d one of the two middle slices shows it, of b one.
    assert key["middle_slice"] == pytest.approx(0.5)
    nothing = series_section(
        answers(), known(lesion=np.zeros(4 * len(SERIES), dtype=bool)), ["normal"], 0.4
    )
    assert nothing["key_slice"] is None


def test_a_model_without_answers_still_has_key_slices() -> None:
    sentence = "This model was trained without series."
    result = section(
        label=[None] * 6, p_cancer=[None] * 6, p_normal=[None] * 6, undecided=[None] * 6,
        error=[sentence] * 6,
    )  # fmt: skip
    assert result["series"] is None and result["patients"] is None
    assert result["counts"]["without_answer"] == 6 and result["key_slice"]["series"] == 3
    first, second = series_lines(result)
    assert first == "series            no answer  (6 series, 6 without answer)"
    assert second.startswith("key slice         0.667 within the lesion, 0.417 by chance")


def test_the_length_of_series_alone_is_a_baseline() -> None:
    assert section()["slice_count_alone"] == 0.5  # each has four slices
    # a, b and d are diseased: a is longer than every healthy one, b than one of the three.
    assert section(slices=[9, 5, 4, 4, 6, 7])["slice_count_alone"] == pytest.approx(4.5 / 9)
    assert section(slices=[9, 8, 4, 7, 6, 5])["slice_count_alone"] == 1


def test_a_model_without_undecided_has_none() -> None:
    scored = section(undecided=[None] * 6)["series"]
    assert scored["undecided"] is None and scored["decided"] is None


def test_intervals_draw_patients_whole() -> None:
    """Ten series of each patient say no more than one."""
    one, many = answers(), pd.concat([answers().assign(series=f"s{i}") for i in range(10)])
    slices = known()
    names = [s for i in range(10) for s in (f"{i}{name}" for name in slices.series)]
    many["series"] = [f"{i}{series.name}" for i in range(10) for series in SERIES]
    many["key_slice"] = None
    repeated = KnownSlices(
        series=names,
        patients=list(slices.patients) * 10,
        groups=np.tile(slices.groups, 10),
        diseased=np.tile(slices.diseased, 10),
        lesion=np.tile(slices.lesion, 10),
        position_mm=np.tile(slices.position_mm, 10),
    )
    few = series_section(one, slices, ["normal"], 0.4)["series"]
    lot = series_section(many.reset_index(drop=True), repeated, ["normal"], 0.4)["series"]
    assert lot["n"] == 60 and lot["groups"] == few["groups"] == 5
    assert lot["specificity"]["ci95"] == pytest.approx(few["specificity"]["ci95"])
    assert lot["roc_auc"]["ci95"] == pytest.approx(few["roc_auc"]["ci95"])


def test_lines_and_metrics_say_what_the_section_says() -> None:
    result = section()
    assert series_lines(result) == [
        "series            AUC 0.889, sensitivity 0.667, specificity 0.667  (6 series, 4 patients)",
        "key slice         0.667 within the lesion, 0.417 by chance  (3 series)",
    ]
    nothing: dict[str, Any] = {"value": None, "ci95": None}
    measures = dict.fromkeys(
        ("roc_auc", "sensitivity", "specificity", "balanced_accuracy"), nothing
    )
    metrics = headline_numbers(
        {"n": 24, "groups": 5, "out_of_domain": {"all": nothing}, "undecided": None,
         "calibration": {"brier": nothing, "ece": 0.1}, "series": result, **measures}
    )  # fmt: skip
    assert metrics["series/roc_auc"] == pytest.approx(8 / 9)
    assert metrics["series/patients/sensitivity"] == 0.5
    assert metrics["series/series"] == 6 and metrics["series/without_answer"] == 0
    assert metrics["series/key_slice_within"] == pytest.approx(2 / 3)
    low, high = result["series"]["roc_auc"]["ci95"]
    assert (metrics["series/roc_auc_lower"], metrics["series/roc_auc_upper"]) == (low, high)


def test_the_report_shows_series_patients_and_the_key_slice() -> None:
    from steps.evaluation.report import TEMPLATE

    text = page(TEMPLATE.with_name("series.html.j2"), series=section())
    for part in ("6 series of 24 slices", "0.889", "6<br>", "4<br>", "0.667", "0.417", "0.4000"):
        assert part in text
    assert "got no answer" not in text
