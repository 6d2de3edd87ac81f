"""Which scans the report's gallery shows, and what it says of them."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from model.artefact import Card
from model.packaging import PACKAGE
from scans.manifest import read_manifest
from steps.evaluation.__main__ import NETWORK_FOLDER
from steps.evaluation.gallery import (
    chosen,
    distance_to_another_answer,
    read_gallery,
    side_by_side,
    write_gallery,
)
from steps.evaluation.report import made_worse
from steps.evaluation.test_split import predict_scans
from tests.model.tiny import Tiny


@pytest.fixture(scope="module")
def card(tiny_pipeline: Tiny) -> Card:
    assert PACKAGE
    return Card.read(tiny_pipeline.model / NETWORK_FOLDER)


def with_answers(card: Card, *rows: tuple[str, str, float]) -> pd.DataFrame:
    """Return rows of (actual, label, probability of disease)."""
    return pd.DataFrame(
        {
            "actual": [actual for actual, _, _ in rows],
            "label": [label for _, label, _ in rows],
            "p_adenocarcinoma": [p for _, _, p in rows],
            "p_normal": [1 - p for _, _, p in rows],
        }
    )


def test_the_surest_mistakes_and_the_nearest_right_answers_come_first(card: Card) -> None:
    t = float(card.threshold or 0.5)
    sick, well = "adenocarcinoma", "normal"
    predictions = with_answers(
        card,
        (sick, sick, 1.0),
        (well, sick, min(t + 0.05, 1.0)),
        (sick, well, max(t - 0.3, 0.0)),
        (well, well, max(t - 0.01, 0.0)),
        (sick, sick, min(t + 0.02, 1.0)),
    )
    wrong, nearly, count, distance = chosen(predictions, card)
    assert (wrong, nearly, count) == ([2, 1], [3, 4, 0], 2)
    assert distance[3] == pytest.approx(0.01, abs=1e-9)


def test_the_distance_without_a_threshold_is_to_the_next_class(card: Card) -> None:
    import dataclasses

    four = dataclasses.replace(card, classes=("a", "b", "c", "d"), threshold=None,
                               healthy_classes=())  # fmt: skip
    p = np.array([[0.5, 0.4, 0.1, 0.0], [0.25, 0.25, 0.25, 0.25]])
    assert distance_to_another_answer(p, four) == pytest.approx([0.1, 0.0])


def test_the_gallery_shows_scans_with_their_heat_maps(tiny_pipeline: Tiny, tmp_path: Path) -> None:
    card = Card.read(tiny_pipeline.model / NETWORK_FOLDER)
    rows = [row for row in read_manifest(tiny_pipeline.data) if row.split == "test"]
    model = mlflow.pyfunc.load_model(str(tiny_pipeline.model))
    predictions = predict_scans(model, tiny_pipeline.data, rows).rows
    write_gallery(tmp_path, model, tiny_pipeline.data, rows, predictions, card)
    gallery = read_gallery(tmp_path)
    assert gallery is not None
    wrong = (predictions["label"] != predictions["actual"]).sum()
    assert (gallery["wrong"], gallery["scans"]) == (wrong, len(rows))
    shown = gallery["shown"]
    assert [scan["wrong"] for scan in shown] == [True] * wrong + [False] * (len(shown) - wrong)
    by_digest = {row.sha256: row.label for row in rows}
    for scan in shown:
        assert by_digest[scan["sha256"]] == scan["actual"]
        assert (scan["actual"] != scan["label"]) == scan["wrong"]
        assert 0 <= scan["p_disease"] <= 1
        with Image.open(tmp_path / scan["picture"]) as picture:
            assert picture.width % 2 == 0 and picture.mode == "RGB"
    assert not any(row.path.split("/")[-1] in json.dumps(gallery) for row in rows)


def test_the_heat_map_lies_over_the_right_half_only() -> None:
    heat = np.zeros((224, 224, 4), dtype=np.uint8)
    heat[:112, :, :] = (255, 96, 0, 255)
    png = io.BytesIO()
    Image.fromarray(heat).save(png, "PNG")
    grey = np.full((300, 200), 100, dtype=np.uint8)
    pair = np.asarray(side_by_side(grey, base64.b64encode(png.getvalue()).decode()))
    assert pair.shape == (240, 320, 3)
    assert (pair[:, :160] == 100).all()
    assert (pair[130:, 160:] == 100).all()  # no evidence, no colour
    red, _, blue = pair[50, 240].astype(int)
    assert red > 150 > 100 > blue


def test_where_calibration_made_things_worse_it_is_found() -> None:
    before = {"ece": 0.03, "brier": 0.2, "loss": 0.5}
    after = {"ece": 0.0701, "brier": 0.2001, "loss": 0.4}
    scores = {"calibration": {"test": {"before": before, "after": after}, "held_out_groups": {}}}
    assert made_worse(scores) == {"test split": [{"title": "ECE", "before": 0.03, "after": 0.0701}]}
    assert made_worse({}) == {}
