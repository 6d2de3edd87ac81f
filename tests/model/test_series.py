"""One answer per series: the same whatever the order of its slices and the size of the calls."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.pyfunc.scoring_server import invocations

from model.series import SeriesRows
from model.series_answer import SeriesAnswer, aggregated, expit, logits
from model.series_scoring import OWN_COLUMNS, series_name
from tests.model.small_model import phantom_png, save_small_model
from tests.scans.dicom import dicom_slice

UID = "1.2.826.0.1.7"
CLASSES = ("adenocarcinoma", "normal")
CORONAL = [1.0, 0.0, 0.0, 0.0, 0.0, -1.0]


@pytest.fixture(scope="module")
def model(small_model: Path) -> Any:
    return mlflow.pyfunc.load_model(str(small_model))


def slice_at(mm: float, seed: int = 0, series: str = UID, **elements: Any) -> bytes:
    """Return a DICOM slice whose grey levels, and so its answer, depend on its position."""
    rng = np.random.default_rng([seed, round(abs(mm) * 100)])
    patches = (2000 * rng.random((16, 16)) ** rng.uniform(0.3, 4)).astype(np.uint16)
    pixels = np.kron(patches, np.ones((4, 4), dtype=np.uint16)).tobytes()
    own = {"SeriesInstanceUID": series, "ImagePositionPatient": [0, 0, mm], "PixelData": pixels}
    return dicom_slice(seed, **own | elements)


def broken_at(mm: float) -> bytes:
    """Return a slice whose header is whole and whose pixels are cut short."""
    whole = slice_at(mm)
    return whole[: len(whole) - 3000]


def predict(model: Any, images: list[Any], **columns: list[Any]) -> pd.DataFrame:
    frame = {name: pd.Series(values, dtype=object) for name, values in columns.items()}
    rows: pd.DataFrame = model.predict(
        pd.DataFrame({"image": pd.Series(images, dtype=object)} | frame), params={"series": True}
    )
    return rows


def answers(model: Any, rows: pd.DataFrame) -> list[dict[str, Any]]:
    table = model.unwrap_python_model().series_rows(rows)
    records: list[dict[str, Any]] = table.to_dict("records")
    return records


def in_calls_of(size: int, model: Any, images: list[bytes]) -> pd.DataFrame:
    starts = range(0, len(images), size)
    calls = [predict(model, images[start : start + size]) for start in starts]
    return pd.concat(calls, ignore_index=True)


def thin_slices() -> list[bytes]:
    """Return slices 0.7 mm apart, with holes, duplicates and broken ones."""
    at_mm = [-20 + 0.7 * i for i in range(60) if i not in (11, 12, 13, 14, 40)]
    whole = [slice_at(round(mm, 2)) for mm in at_mm]
    return [*whole, slice_at(-20, seed=1), slice_at(1.0, seed=2), broken_at(-20.5), broken_at(3.3)]


def assert_same_answer(found: dict[str, Any], expected: dict[str, Any]) -> None:
    numbers = {"probability", "p_adenocarcinoma", "p_normal", "out_of_domain_share"}
    for name, value in expected.items():
        if name in numbers:
            assert found[name] == pytest.approx(value, abs=1e-6), name
        elif name != "key_slice":  # a place in rows of another order
            assert found[name] == value, name


def test_the_answer_depends_neither_on_order_nor_on_the_size_of_the_calls(model: Any) -> None:
    images = thin_slices()
    (expected,) = answers(model, predict(model, images))
    assert expected["slices"] == len(images)
    assert expected["skipped"] > len(images) / 2
    assert expected["failed"] == 1  # the one that no whole slice of its cell lies below
    assert expected["gaps"] == 2
    for seed, size in ((1, len(images)), (2, 1), (3, 7), (4, 16)):
        order = np.random.default_rng(seed).permutation(len(images))
        rows = in_calls_of(size, model, [images[i] for i in order])
        (found,) = answers(model, rows.sample(frac=1, random_state=seed))
        assert_same_answer(found, expected)
        (found,) = answers(model, rows)
        assert rows["position_mm"][found["key_slice"]] == expected["key_position_mm"]


def test_thin_slices_are_skipped_near_a_scored_one_and_thick_ones_never(model: Any) -> None:
    at_mm = np.arange(0, 60, 0.625)
    rows = predict(model, [slice_at(float(mm)) for mm in at_mm])
    skipped = rows["skipped"].to_numpy(dtype=bool)
    assert rows["error"].isna().all()
    for name in ("label", "probability", "p_normal", "out_of_domain", "undecided"):
        assert rows[name][skipped].isna().all(), name
    assert rows["label"][~skipped].notna().all()
    assert (~skipped).sum() == 24  # 60 mm / 2.5 mm
    for mm in at_mm[skipped]:
        assert np.abs(at_mm[~skipped] - mm).min() < 2.5
    thick = predict(model, [slice_at(2.5 * i - 30) for i in range(25)])
    assert not thick["skipped"].any()
    for key in ("series_label", "series_probability", "series_undecided", "series"):
        assert rows[key].nunique() == 1, key
    assert rows["key_slice"].sum() == 1
    assert rows["position_mm"].tolist() == at_mm.tolist()


def test_thinning_costs_no_answer_of_slices_without_a_series(model: Any) -> None:
    images = [slice_at(0.1 * i) for i in range(8)]
    frame = pd.DataFrame({"image": images, "series": [None] * 8})
    rows = model.predict(frame)
    assert rows["label"].notna().all()
    assert rows["series"].tolist() == [None] * 8
    assert rows["series_label"].tolist() == [None] * 8
    assert rows["key_slice"].tolist() == [None] * 8
    assert not rows["skipped"].any()
    assert len(model.unwrap_python_model().series_rows(rows)) == 0


def test_a_column_names_series_and_the_parameter_fills_what_it_leaves_open(model: Any) -> None:
    images = [slice_at(0.0), slice_at(5.0), phantom_png(1), slice_at(9.0, series="1.9")]
    rows = predict(model, images, series=["mine", None, "mine", None])
    assert rows["series"].tolist() == ["mine", UID, "mine", "1.9"]
    assert rows["position_mm"].tolist() == [0.0, 5.0, None, 9.0]
    named = model.predict(pd.DataFrame({"image": images, "series": ["a", None, "a", "b"]}))
    assert named["series"].tolist() == ["a", None, "a", "b"]
    plain = model.predict(pd.DataFrame({"image": images}))
    assert list(plain.columns) == list(rows.columns)[: len(plain.columns)]
    assert list(rows.columns)[len(plain.columns) :] == list(OWN_COLUMNS)
    for name in ("label", "undecided", "error"):
        assert rows[name].tolist() == plain[name].tolist()
    assert [a["series"] for a in answers(model, rows)] == ["mine", UID, "1.9"]


def test_the_answer_is_the_fitted_function_of_the_most_suspicious_slice(model: Any) -> None:
    rows = predict(model, [slice_at(5.0 * i) for i in range(6)])
    sick = rows["p_adenocarcinoma"].astype(float)
    (answer,) = answers(model, rows)
    assert answer["probability"] == pytest.approx(sick.max())
    assert answer["key_slice"] == sick.argmax()
    assert answer["p_normal"] == pytest.approx(1 - sick.max())
    assert answer["label"] == CLASSES[int(sick.max() < 0.5)]
    assert rows["series_label"].unique().tolist() == [answer["label"]]
    assert rows["series_probability"].unique().tolist() == [answer["probability"]]


def test_a_series_of_failed_slices_has_a_sentence_and_no_answer(model: Any) -> None:
    rows = predict(model, [broken_at(0.0), broken_at(1.0), b"no scan"], series=["a", "a", "a"])
    assert rows["error"].notna().all()
    assert rows["series_label"].tolist() == [None] * 3
    assert rows["key_slice"].tolist() == [False] * 3
    (answer,) = answers(model, rows)
    assert (answer["slices"], answer["failed"], answer["scored"]) == (3, 3, 0)
    assert answer["error"].startswith("None of the 3 slices of this series could be scored")
    assert {answer[n] for n in ("label", "probability", "key_slice", "undecided")} == {None}


def test_a_failed_slice_still_belongs_to_its_series(model: Any) -> None:
    rows = predict(model, [slice_at(0.0), broken_at(5.0), slice_at(10.0)])
    assert rows["series"].tolist() == [UID] * 3
    (answer,) = answers(model, rows)
    assert (answer["slices"], answer["scored"], answer["failed"]) == (3, 2, 1)
    assert answer["note"] == "1 of 3 slices failed and are left out."


def test_a_broken_slice_never_costs_its_cell_an_answer(model: Any) -> None:
    rows = predict(model, [broken_at(0.0), broken_at(0.4), slice_at(0.8), slice_at(1.2)])
    assert rows["skipped"].tolist() == [False, False, False, True]
    assert rows["label"].notna().tolist() == [False, False, True, False]


def test_one_slice_is_a_series(model: Any) -> None:
    rows = predict(model, [slice_at(3.0)])
    (answer,) = answers(model, rows)
    assert answer["label"] == rows["label"][0]
    assert (answer["first_mm"], answer["last_mm"], answer["gaps"]) == (3.0, 3.0, 0)
    assert answer["note"] == "It has one slice only."


def test_holes_and_duplicates_are_counted_and_said(model: Any) -> None:
    at_mm = [0, 5, 10, 25, 30, 30, 40]
    images = [slice_at(float(mm), seed=i) for i, mm in enumerate(at_mm)]
    (answer,) = answers(model, predict(model, images))
    assert (answer["gaps"], answer["duplicate_positions"]) == (2, 1)
    assert (answer["scored"], answer["skipped"]) == (7, 0)
    assert answer["note"] == (
        "Slices are missing at 2 places; 1 position occurs more than once, as where two series "
        "have one name."
    )


def test_the_same_file_twice_changes_no_answer(model: Any) -> None:
    images = [slice_at(4.0 * i) for i in range(5)]
    (once,) = answers(model, predict(model, images))
    (twice,) = answers(model, predict(model, images + images))
    assert twice["probability"] == pytest.approx(once["probability"], abs=1e-6)
    assert twice["duplicate_positions"] == 5


def test_slices_of_another_orientation_fail_alone(model: Any) -> None:
    axial = [slice_at(5.0 * i) for i in range(4)]
    coronal = [
        slice_at(0.0, seed=i, ImageOrientationPatient=CORONAL, ImagePositionPatient=[0, i, 0])
        for i in range(3)
    ]
    (expected,) = answers(model, predict(model, axial))
    rows = predict(model, [*coronal, *axial])
    assert rows["error"].str.contains("axial").fillna(False).tolist() == [True] * 3 + [False] * 4
    (answer,) = answers(model, rows)
    assert answer["probability"] == pytest.approx(expected["probability"], abs=1e-6)
    assert (answer["failed"], answer["gaps"], answer["duplicate_positions"]) == (3, 0, 0)
    assert (answer["first_mm"], answer["last_mm"]) == (0.0, 15.0)


def test_a_plan_from_the_starts_of_files_skips_what_scoring_skips(model: Any) -> None:
    images = [slice_at(0.9 * i, series=f"1.{i % 2}") for i in range(40)] + [phantom_png(0)]
    own = model.unwrap_python_model()
    plan = own.series_plan([image[:2000] for image in images])
    rows = predict(model, images)
    for name in ("series", "position_mm", "skipped"):
        assert plan[name].tolist() == rows[name].tolist(), name
    assert plan["skipped"].sum() > 10
    named = own.series_plan(images, ["a"] * 20 + [None] * 21)
    assert named["series"].tolist() == ["a"] * 20 + [None] * 21
    assert not named["skipped"][20:].any()


def test_a_saved_model_says_how_it_answers_series(model: Any) -> None:
    metadata = model.metadata.metadata
    assert metadata["series_aggregation"] == "maximum"
    assert (metadata["series_threshold"], metadata["series_spacing_mm"]) == (0.5, 2.5)
    assert metadata["healthy_classes"] == ["normal"]


def test_three_thousand_slices(model: Any) -> None:
    images = [slice_at(round(0.1 * (i % 30), 1) + 10 * (i // 30)) for i in range(3000)]
    rows = predict(model, images)
    (answer,) = answers(model, rows)
    assert (answer["slices"], answer["failed"]) == (3000, 0)
    assert answer["scored"] + answer["skipped"] == 3000
    assert answer["scored"] == 200  # two cells of 2.5 mm in each 3 mm


def test_many_series_at_once_are_answered_as_each_alone(model: Any) -> None:
    of_series = [[slice_at(5.0 * i, seed=s, series=f"1.2.{s}") for i in range(4)] for s in range(5)]
    alone = [answers(model, predict(model, images))[0] for images in of_series]
    mixed = [images[i] for i in range(4) for images in of_series]
    for found, expected in zip(answers(model, predict(model, mixed)), alone, strict=True):
        assert_same_answer(found, expected)


def test_rows_may_have_been_in_a_table_meanwhile(model: Any, tmp_path: Path) -> None:
    rows = predict(model, [*thin_slices(), phantom_png(0), b"no scan"])
    expected = answers(model, rows)
    rows.to_parquet(tmp_path / "rows.parquet")
    assert answers(model, pd.read_parquet(tmp_path / "rows.parquet")) == expected
    text = rows.to_json(orient="records", double_precision=15)
    assert_same_answer(answers(model, pd.DataFrame(json.loads(text)))[0], expected[0])


def test_a_model_that_was_trained_without_series_says_so(tmp_path: Path) -> None:
    model = mlflow.pyfunc.load_model(str(save_small_model(tmp_path, series=None)))
    rows = predict(model, [slice_at(5.0 * i) for i in range(3)])
    assert rows["label"].notna().all()
    assert rows["series_label"].tolist() == [None] * 3
    assert rows["key_slice"].sum() == 1
    (answer,) = answers(model, rows)
    assert "trained without series" in answer["error"]
    assert (answer["label"], answer["probability"]) == (None, None)
    assert (answer["scored"], answer["key_slice"]) == (3, rows["key_slice"].argmax())


def test_rows_without_series_are_refused(model: Any) -> None:
    rows = model.predict(pd.DataFrame({"image": [slice_at(0.0)]}))
    with pytest.raises(ValueError, match=r"Expected rows of this model .* series missing"):
        answers(model, rows)


@pytest.mark.parametrize(
    ("cell", "name"),
    [("1.2", "1.2"), (None, None), ("", None), (float("nan"), None), (pd.NA, None), (7, "7"),
     (7.0, "7"), ("None", None)],
)  # fmt: skip
def test_a_cell_of_the_column_names_a_series_or_none(cell: object, name: str | None) -> None:
    assert series_name(cell) == name


@pytest.mark.parametrize("cell", [b"x", True, ["a"], {"a": 1}])
def test_a_cell_that_is_no_text_is_refused(cell: object) -> None:
    with pytest.raises(ValueError, match="Expected text or null in the column `series`"):
        series_name(cell)


def bodies(images: list[str], names: list[str | None]) -> list[tuple[str, str]]:
    """Return a request with the column `series` in every form MLflow takes, with its type."""
    records = [{"image": i, "series": n} for i, n in zip(images, names, strict=True)]
    pairs = [[i, n] for i, n in zip(images, names, strict=True)]
    forms: list[dict[str, Any]] = [
        {"dataframe_records": records},
        {"dataframe_split": {"columns": ["image", "series"], "data": pairs}},
        {"instances": records},
        {"inputs": {"image": images, "series": names}},
        {"inputs": records},
    ]
    csv = pd.DataFrame({"image": images, "series": names}).to_csv(index=False)
    return [*((json.dumps(form), "application/json") for form in forms), (csv, "text/csv")]


def test_every_form_of_request_takes_the_column_and_the_parameter(model: Any) -> None:
    images = [slice_at(0.0), slice_at(5.0), slice_at(9.0, series="1.9")]
    texts = [base64.b64encode(image).decode() for image in images]
    schema = model.metadata.get_input_schema()
    for body, kind in bodies(texts, ["007", "007", None]):
        answer = invocations(body, kind, model, schema)
        rows = json.loads(answer.response)["predictions"]
        assert [row["series"] for row in rows] == ["007", "007", None], body[:60]
        assert sum(bool(row["key_slice"]) for row in rows) == 1
        assert rows[0]["series_probability"] == rows[1]["series_probability"]
        assert rows[2]["series_label"] is None
    for form in ({"inputs": {"image": texts}}, {"instances": [{"image": t} for t in texts]}):
        body = json.dumps(form | {"params": {"series": True}})
        rows = json.loads(invocations(body, "application/json", model, schema).response)
        assert [row["series"] for row in rows["predictions"]] == [UID, UID, "1.9"]


def test_scores_are_those_of_their_formulas_in_any_order() -> None:
    p = np.array([0.9, 0.2, 0.5, 0.7])
    logit, weight = logits(p), np.array([0.3, -1.0, 2.0, 0.1])
    assert aggregated(logit, None, "maximum") == pytest.approx(np.log(9))
    assert aggregated(logit, None, "top_mean", 2) == pytest.approx(logit[[0, 3]].mean())
    assert aggregated(logit[:1], None, "top_mean", 3) == pytest.approx(logit[0])
    none = np.prod(1 - p)
    assert expit(aggregated(logit, None, "noisy_or")) == pytest.approx(1 - none)
    attended = np.exp(weight) / np.exp(weight).sum() @ logit
    assert aggregated(logit, weight, "attention") == pytest.approx(attended)
    back = aggregated(logit[::-1], weight[::-1], "attention")
    assert back == aggregated(logit, weight, "attention")
    with pytest.raises(ValueError, match="column `attention`"):
        aggregated(logit, None, "attention")
    with pytest.raises(ValueError, match="Expected an aggregation of"):
        SeriesAnswer("median")  # type: ignore[arg-type]


def test_diseases_share_a_series_probability_as_its_slices_do() -> None:
    classes = ("a", "normal", "b")
    p = pd.DataFrame({"p_a": [0.1, 0.6], "p_normal": [0.8, 0.1], "p_b": [0.1, 0.3]})
    rows = p.assign(series="s", position_mm=[0.0, 10.0], error=None)
    found = SeriesRows(classes, ("normal",), SeriesAnswer("maximum"), 2.5).answers(rows)
    answer = found.to_dict("records")[0]
    assert answer["p_a"] + answer["p_b"] == pytest.approx(0.9)
    assert answer["p_normal"] == pytest.approx(0.1)
    assert answer["p_a"] > answer["p_b"]
    assert (answer["label"], answer["probability"]) == ("a", pytest.approx(0.9))
