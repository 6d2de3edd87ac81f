"""The model that is scored on scans from elsewhere, and what its artefact says about itself."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import BadZipFile

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from numpy.typing import NDArray

from model.decision import healthy_classes
from steps.errors import StageError
from steps.registry.register import SCORES_ARTIFACT
from steps.registry.uris import ModelVersion, registered_version
from steps.training.training_scans import FILE, TrainingScans


@dataclasses.dataclass(frozen=True)
class ExternalModel:
    """A loaded model with what external scores need to know of it."""

    uri: str
    pyfunc: Any
    digest: str
    classes: tuple[str, ...]
    healthy: tuple[str, ...]  # those of the classes that are no disease
    threshold: float | None
    series_threshold: float | None  # on the probability of a series
    seen: TrainingScans
    version: ModelVersion | None
    internal_scores: Mapping[str, Any] | None  # scores.json of its own evaluation
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # of its MLmodel

    @property
    def stated_sensitivity(self) -> float | None:
        """The sensitivity that the stored threshold is to keep; None where it is not known."""
        floor = (self.internal_scores or {}).get("sensitivity_floor") or {}
        return floor.get("stated")

    def p_disease(self, rows: pd.DataFrame) -> NDArray[np.float64]:
        """Return the probability of disease of answered rows: 1 - p of the healthy classes."""
        healthy = rows[[f"p_{name}" for name in self.healthy]].to_numpy(np.float64)
        return np.asarray(1.0 - healthy.sum(axis=1))


@contextmanager
def external_model(uri: str) -> Iterator[ExternalModel]:
    """Fetch and load a model, with the code that it was saved with.

    Args:
        uri: `models:/name/3`, `models:/name/Production`, `models:/name@alias`, `runs:/…` or a
            folder.

    Raises:
        StageError: there is none, or it lacks what an external evaluation needs.
    """
    with TemporaryDirectory(prefix="chest-ct-model-") as scratch:
        try:
            version = registered_version(uri)
            folder = Path(mlflow.artifacts.download_artifacts(uri, dst_path=scratch))
            metadata = Model.load(str(folder)).metadata or {}
        except (MlflowException, OSError) as error:
            first_line = str(error).splitlines()[0]
            raise StageError(
                f"Expected model_uri to name a model, such as models:/chest-ct/3 or "
                f"artifacts/training/model. Received: {uri} ({first_line})"
            ) from error
        yield _read(uri, folder, metadata, version)


def _read(
    uri: str, folder: Path, metadata: Mapping[str, Any], version: ModelVersion | None
) -> ExternalModel:
    card_file, seen_file = folder / "artifacts" / "network" / "card.json", folder / FILE
    older = StageError(
        f"{uri} was saved by an older version of chest-ct: it does not say which scans it was "
        "made from, so they cannot be left out. Train it again: mlflow run ."
    )
    if not card_file.is_file() or not seen_file.is_file() or "model_digest" not in metadata:
        raise older
    try:
        card = json.loads(card_file.read_text(encoding="utf-8"))
        classes = tuple(metadata["classes"])
        healthy = tuple(card.get("healthy_classes") or healthy_classes(classes))
        series_threshold = (card.get("series") or {}).get("threshold")
        seen = TrainingScans.read(seen_file)
    except (AttributeError, KeyError, TypeError, ValueError, BadZipFile) as error:
        raise older from error
    return ExternalModel(
        uri=uri,
        pyfunc=mlflow.pyfunc.load_model(str(folder)),
        digest=str(metadata["model_digest"]),
        classes=classes,
        healthy=healthy,
        threshold=card.get("threshold"),
        series_threshold=series_threshold,
        seen=seen,
        version=version,
        internal_scores=_internal_scores(uri, version),
        metadata=metadata,
    )


def _internal_scores(uri: str, version: ModelVersion | None) -> Mapping[str, Any] | None:
    """Return the model's own scores.json, so that the two can stand beside each other."""
    if version is None:
        beside = Path(uri).parent.parent.parent / "scores.json"  # artifacts/training/model
        text = beside.read_text(encoding="utf-8") if beside.is_file() else None
    else:
        try:
            text = mlflow.artifacts.load_text(f"runs:/{version.run_id}/{SCORES_ARTIFACT}")
        except (MlflowException, OSError):
            text = None
    scores: Mapping[str, Any] | None = json.loads(text) if text else None
    return scores
