"""Prediction sets and the column `undecided`."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from model.artefact import Card
from model.conformal import Conformal, fit_conformal
from tests.model.small_model import phantom_png, save_small_model


def test_a_set_holds_each_class_whose_score_is_within_its_quantile() -> None:
    conformal = Conformal(0.1, (0.6, 0.3))
    p = np.array([[0.9, 0.1], [0.5, 0.5], [0.25, 0.75], [0.4, 0.6], [0.39, 0.61]])
    sets = conformal.prediction_sets(p)
    assert sets.tolist() == [[True, False], [True, False], [False, True], [True, False],
                             [False, False]]  # fmt: skip
    assert conformal.undecided(p).tolist() == [False, False, False, False, True]
    wide = Conformal(0.01, (0.85, 0.85))
    assert wide.prediction_sets(p)[1].tolist() == [True, True]
    assert wide.undecided(p).tolist() == [False, True, True, True, True]


def test_the_quantile_is_that_of_the_formula() -> None:
    # 9 scans of class 0 with scores 0.1 to 0.9; ceil(10 * 0.8) = 8th smallest.
    scores = np.arange(1, 10) / 10
    p = np.column_stack([1 - scores, scores])
    fitted = fit_conformal(p, np.zeros(9, np.int64), 0.2)
    assert fitted.quantiles[0] == pytest.approx(0.8)
    assert fitted.quantiles[1] == 1.0  # no scan of class 1: it is in every set
    assert fit_conformal(p, np.zeros(9, np.int64), 0.1).quantiles[0] == pytest.approx(0.9)
    assert fit_conformal(p, np.zeros(9, np.int64), 0.05).quantiles[0] == 1.0  # 19 are needed


def test_each_class_is_covered_at_the_stated_rate() -> None:
    rng = np.random.default_rng(0)

    def draw(n: int) -> tuple[np.ndarray, np.ndarray]:
        actual = (rng.random(n) < 0.15).astype(np.int64)  # unequal classes, unequally hard
        logit = rng.normal(np.where(actual, 0.5, -2.0), np.where(actual, 1.5, 1.0))
        p1 = 1 / (1 + np.exp(-logit))
        return np.column_stack([1 - p1, p1]), actual

    covered = []
    for _ in range(60):
        fitted = fit_conformal(*draw(300), 0.1)
        p, actual = draw(2000)
        hit = fitted.prediction_sets(p)[np.arange(len(p)), actual]
        covered.append([hit[actual == index].mean() for index in (0, 1)])
    # Vovk 2012, proposition 3: at least 0.9 on average, and at most 1 / (n + 1) more.
    mean = np.mean(covered, axis=0)
    assert (mean > 0.89).all(), mean
    assert mean[0] < 0.9 + 1 / 200, mean
    assert mean[1] < 0.9 + 1 / 30, mean


@pytest.mark.parametrize("rate", [0, 1, -0.1, 1.5])
def test_what_is_no_error_rate_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="Expected an error rate above 0 and below 1; received"):
        fit_conformal(np.ones((1, 2)) / 2, np.zeros(1, np.int64), rate)


def rows_of(model_folder: Path, images: list[bytes | None]) -> pd.DataFrame:
    model = mlflow.pyfunc.load_model(str(model_folder))
    columns = model.metadata.get_output_schema().input_names()
    rows = model.predict(pd.DataFrame({"image": images}))
    assert list(rows.columns) == columns
    assert columns[-3:] == ["out_of_domain", "undecided", "error_code"]
    return rows


def test_a_row_says_whether_its_prediction_set_is_one_class(tmp_path: Path) -> None:
    images: list[bytes | None] = [phantom_png(seed, nodule=seed % 2 == 0) for seed in range(8)]
    plain = save_small_model(tmp_path / "plain")
    p = rows_of(plain, images)[["p_adenocarcinoma", "p_normal"]].to_numpy(float)
    middle = float(np.median(1 - p[:, 0]))
    conformal = Conformal(0.1, (middle, 0.0))  # half of the sets have the first class, none two
    model = save_small_model(tmp_path / "conformal", conformal=conformal)
    rows = rows_of(model, [*images, b"no picture"])
    assert rows["undecided"].tolist() == [*conformal.undecided(p).tolist(), None]
    assert set(rows["undecided"][:8]) == {True, False}
    stored = json.loads((model / "artifacts" / "network" / "card.json").read_text())["conformal"]
    assert stored == {"error_rate": 0.1, "quantiles": [middle, 0.0]}
    assert Card.read(model / "artifacts" / "network").conformal == conformal


def test_a_model_that_stores_no_quantiles_says_null(tmp_path: Path) -> None:
    model = save_small_model(tmp_path)
    card = model / "artifacts" / "network" / "card.json"
    fields = json.loads(card.read_text())
    assert fields.pop("conformal") is None
    for _ in range(2):
        rows = rows_of(model, [phantom_png(0), base64.b64encode(phantom_png(1))])
        assert rows["error"].tolist() == [None, None]
        assert rows["undecided"].tolist() == [None, None]
        card.write_text(json.dumps(fields))  # as an older version saved it
