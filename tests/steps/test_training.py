"""Training as a whole: the same again from one seed, and as many classes as there are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from scans.manifest import read_manifest
from scans.phantom.drawing import make_phantom
from steps.base import read_base
from steps.evaluation.__main__ import evaluation
from steps.training.features import FEATURES, scan_features, write_features
from tests.model.tiny import AUGMENTATION, Tiny, run_tiny_pipeline, train_tiny

FOUR = ("adenocarcinoma", "large cell carcinoma", "normal", "squamous")


def probabilities(model: Path, data: Path) -> Any:
    images = [(data / row.path).read_bytes() for row in read_manifest(data)]
    rows = mlflow.pyfunc.load_model(str(model)).predict(pd.DataFrame({"image": images}))
    return rows.filter(like="p_").to_numpy(float)


def test_two_runs_with_one_seed_give_the_same_predictions(
    tiny_pipeline: Tiny, tmp_path: Path
) -> None:
    again = run_tiny_pipeline(tmp_path)
    first = probabilities(tiny_pipeline.model, tiny_pipeline.data)
    np.testing.assert_allclose(probabilities(again.model, tiny_pipeline.data), first, atol=1e-6)
    train_tiny(again, tmp_path / "other", seed=1)
    assert np.abs(probabilities(tmp_path / "other" / "model", again.data) - first).max() > 1e-4


def test_features_that_were_cut_short_are_computed_again(
    tiny_pipeline: Tiny, tmp_path: Path
) -> None:
    rows = read_manifest(tiny_pipeline.data)[:4]
    base = read_base(tiny_pipeline.prepared)
    whole = scan_features(tiny_pipeline.data, rows, base, AUGMENTATION, seed=0)
    write_features(whole, tmp_path)
    path = tmp_path / FEATURES
    path.write_bytes(path.read_bytes()[:-100])
    again = scan_features(tiny_pipeline.data, rows, base, AUGMENTATION, seed=0, cache=tmp_path)
    np.testing.assert_array_equal(again.vectors, whole.vectors)


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """Four folders of phantoms that differ in brightness and nodule, through three stages."""
    folder = tmp_path_factory.mktemp("four")
    for number in range(48):
        name = FOUR[number % 4]
        (folder / "scans" / name).mkdir(parents=True, exist_ok=True)
        grey = make_phantom(number, nodule=name != "normal").image
        flipped = (grey, grey.T, grey[::-1], 255 - grey)[number % 4]
        Image.fromarray(np.ascontiguousarray(flipped)).save(
            folder / "scans" / name / f"{number}.png"
        )
    return run_tiny_pipeline(folder, source=str(folder / "scans"))


def test_four_classes_go_all_the_way(four: Tiny, tmp_path: Path) -> None:
    result = evaluation(
        four.data, four.trained, tmp_path / "evaluation", tmp_path / "scores.json",
        protocol_repeats=1, stress=True,
    )  # fmt: skip
    assert result == json.loads((tmp_path / "scores.json").read_text())
    assert tuple(result["per_class"]) == FOUR
    assert result["confusion_matrix"]["classes"] == list(FOUR)
    assert np.sum(result["confusion_matrix"]["rows_actual_columns_predicted"]) == result["n"]
    areas = [row["roc_auc"] for row in result["per_class"].values()]
    assert result["roc_auc"] == pytest.approx(np.mean(areas))
    assert result["sensitivity"]["n"] + result["specificity"]["n"] == result["n"]
    curves = pd.read_csv(tmp_path / "evaluation" / "roc.csv")
    assert set(curves["curve"]) == set(FOUR)
    predictions = pd.read_csv(tmp_path / "evaluation" / "predictions.csv")
    p = predictions[[f"p_{name}" for name in FOUR]]
    assert p.sum(axis=1).to_numpy() == pytest.approx(1)
    assert set(predictions["label"]) <= set(FOUR)
    assert "path" not in predictions


def test_agreement_with_keras_is_close_and_at_one_temperature(tmp_path: Path) -> None:
    """At f32 the two networks are one, whatever the temperature."""
    floating = run_tiny_pipeline(tmp_path, precision="f32")
    card_path = floating.model / "artifacts" / "network" / "card.json"
    card = json.loads(card_path.read_text()) | {"temperature": 3.0}
    card_path.write_text(json.dumps(card))
    result = evaluation(
        floating.data, floating.trained, tmp_path / "evaluation", tmp_path / "scores.json",
        protocol_repeats=0, stress=False,
    )  # fmt: skip
    found = result["agreement_with_keras"]
    assert found["same_label"] == 1
    assert found["largest_probability_difference"] < 1e-3
