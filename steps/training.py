"""Stage 3: features once, the head on them, and one pyfunc that holds it all.

Reads artifacts/data_ingestion and artifacts/prepare_base_model; writes artifacts/training.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

import click
import mlflow
import numpy as np
from numpy.typing import NDArray

from model import artefact
from model.network import export
from model.packaging import save_pyfunc
from scans.manifest import ManifestRow, read_manifest
from steps.augmentation import Augmentation
from steps.errors import StageError, one_sentence_errors
from steps.features import ScanSet, decode_scans, scan_features
from steps.fine_tuning import fine_tune
from steps.folders import replaced_folder
from steps.head import HeadSettings, fit_head
from steps.phantom_example import example_scan
from steps.tracking import say, stage_run

KEPT = ("features.npz",)  # features of an earlier run, used again where nothing they depend on moved


@dataclasses.dataclass(frozen=True)
class FineTuning:
    """How the last blocks of VGG16 are trained, if they are."""

    blocks: int  # 0 leaves the whole base frozen
    epochs: int
    learning_rate: float


@dataclasses.dataclass(frozen=True)
class Trained:
    """What training tells."""

    history: list[dict[str, float]]  # a row per epoch of the head
    card: artefact.Card
    feature_count: int
