"""What a row says beyond its label: doubt about the picture, and where the evidence lies."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from model.artefact import Card
from model.out_of_domain import OutOfDomain
from scans.manifest import read_manifest
from steps.evaluation.non_scans import non_scans
from tests.model.tiny import Tiny


def test_odd_pictures_are_flagged_and_scans_are_not(model: Any, scans: list[bytes]) -> None:
    odd = [file for files in non_scans().values() for file in files]
    rows = model.predict(pd.DataFrame({"image": [*scans, b"no picture", *odd]}))
    flags = rows["out_of_domain"].tolist()
    # A random network of 32 x 32 pixels sees little; benchmarks/out_of_domain.py asks a real one.
    assert np.mean(flags[: len(scans)]) < 0.1
    assert flags[len(scans)] is None
    assert np.mean(flags[len(scans) + 1 :]) > 0.25


def test_explanation_is_only_there_when_asked_for(model: Any, scans: list[bytes]) -> None:
    images = pd.DataFrame({"image": [scans[0], b"no picture", scans[1]]})
    plain = model.predict(images)
    explained = model.predict(images, params={"explain": True})
    assert "heatmap" not in plain.columns
    assert list(explained.columns) == [*plain.columns, "heatmap"]
    pd.testing.assert_frame_equal(explained.drop(columns="heatmap"), plain)
    first, none, second = explained["heatmap"]
    assert none is None
    for heatmap in (first, second):
        picture = Image.open(io.BytesIO(base64.b64decode(heatmap, validate=True)))
        assert picture.mode == "RGBA"


def test_threshold_of_the_artefact_is_used_and_can_be_overridden(
    tiny_pipeline: Tiny, model: Any, scans: list[bytes]
) -> None:
    images = pd.DataFrame({"image": scans})
    everyone = model.predict(images, params={"threshold": 0.0})["label"]
    assert set(everyone) == {"adenocarcinoma"}
    own = model.predict(images)
    threshold = Card.read(tiny_pipeline.model / "artifacts" / "network").threshold
    assert threshold is not None
    sick = 1 - own["p_normal"].to_numpy(float) >= threshold
    assert (own["label"].to_numpy() == np.where(sick, "adenocarcinoma", "normal")).all()


def test_the_artefact_carries_its_references(tiny_pipeline: Tiny) -> None:
    doubts = OutOfDomain.read(tiny_pipeline.model / "artifacts" / "network")
    assert doubts is not None
    rows = read_manifest(tiny_pipeline.data)
    kept = sum(row.split in ("train", "validation") for row in rows)
    assert len(doubts.references) % kept == 0
