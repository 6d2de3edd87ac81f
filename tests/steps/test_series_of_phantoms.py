"""What training fits on phantom patients, with the real network: patients are told apart."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest

from model.decision import HEALTHY
from model.preprocessing import Preprocessing
from scans.limits import Limits
from scans.manifest import ManifestRow, read_manifest
from scans.splits import Fractions
from steps.base import read_base
from steps.data_ingestion import ingest
from steps.prepare_base_model import prepare_base_model
from steps.training.calibration import Calibration, calibrate
from steps.training.features import FeatureSet, scan_features
from steps.training.head import HeadSettings
from steps.training.multiple_instance import telling_slices
from steps.training.series import SeriesFit, fit_series
from steps.training.series_bags import labels_are_of_series
from tests.steps.test_series_training import VIEWS

CLASSES = ("adenocarcinoma", "normal")
HEAD = HeadSettings(
    epochs=1, batch_size=512, steps_per_epoch=0, learning_rate=0.1, l2=30, dropout=0,
    balanced_classes=True, patience=0, shrinkage=0.95,
)  # fmt: skip
PATIENTS = 40


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> tuple[FeatureSet, list[ManifestRow]]:
    """Features of the training and validation scans, and their rows."""
    if not os.environ.get("CHEST_CT_WEIGHTS"):
        pytest.skip("CHEST_CT_WEIGHTS does not name a file of VGG16's weights")
    folder: Path = tmp_path_factory.mktemp("phantoms")
    ingest(
        "phantom", folder / "data", sha256="", class_patterns="",
        fractions=Fractions(0.8, 0.1, 0.1), seed=0, group_distance_bits=40, resplit=False,
        limits=Limits(), phantom_images=0, phantom_patients=PATIENTS,
    )  # fmt: skip
    prepare_base_model(
        folder / "data", folder / "base", weights=os.environ["CHEST_CT_WEIGHTS"], precision="f32",
        preprocessing=Preprocessing(image_size_px=96), calibration_images=1, seed=0,
    )  # fmt: skip
    rows = [row for row in read_manifest(folder / "data") if row.split != "test"]
    return scan_features(folder / "data", rows, read_base(folder / "base"), VIEWS, seed=0), rows


def calibrated(vectors: np.ndarray, rows: list[ManifestRow]) -> Calibration:
    labels = np.array([CLASSES.index(row.label) for row in rows])
    return calibrate(
        vectors, labels, np.array([row.group for row in rows]), CLASSES, l2=HEAD.l2, balanced=True,
        sensitivity=0.9, seed=0, shrinkage=HEAD.shrinkage, healthy=[HEALTHY],
    )  # fmt: skip


def fitted(
    features: FeatureSet, rows: list[ManifestRow], kept: np.ndarray | None = None
) -> SeriesFit:
    some = np.ones(len(rows), dtype=bool) if kept is None else kept
    own = [row for row, chosen in zip(rows, some, strict=True) if chosen]
    return fit_series(
        features.vectors, rows, calibrated(features.vectors[some], own), CLASSES, [HEALTHY], HEAD,
        kept, spacing_mm=2.5, sensitivity=0.9, undecided_error_rate=0.1, seed=0,
    )  # fmt: skip


def held_out_auc(fit: SeriesFit) -> float:
    auc: float = fit.report["cross_validation"][fit.report["aggregation"]]["auc"]
    return auc


@pytest.mark.slow
def test_patients_are_told_apart_by_labels_of_slices_and_by_labels_of_patients(
    scans: tuple[FeatureSet, list[ManifestRow]],
) -> None:
    features, rows = scans
    assert not labels_are_of_series(rows, CLASSES, [HEALTHY], "auto")
    by_slice = fitted(features, rows)
    assert by_slice.answer is not None
    assert held_out_auc(by_slice) > 0.85
    sick = {row.patient for row in rows if row.label != HEALTHY}
    coarse = [dataclasses.replace(row, label=CLASSES[row.patient not in sick]) for row in rows]
    assert labels_are_of_series(coarse, CLASSES, [HEALTHY], "auto")
    kept = telling_slices(features.vectors, coarse, CLASSES, [HEALTHY], HEAD, seed=0)
    as_labelled, chosen = fitted(features, coarse), fitted(features, coarse, kept)
    assert held_out_auc(chosen) > held_out_auc(as_labelled) + 0.05
    shown = np.array([row.label != HEALTHY for row in rows])
    diseased = np.array([row.label != HEALTHY for row in coarse])
    assert shown[kept & diseased].mean() > shown[diseased].mean() + 0.1
