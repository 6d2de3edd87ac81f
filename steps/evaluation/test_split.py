"""The test split, scored slice by slice and series by series."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from model.artefact import Card
from model.decision import healthy_indices
from scans.manifest import ManifestRow
from steps.evaluation.lesions import masked
from steps.evaluation.series import Scored, score_slices, series_names
from steps.evaluation.series_scores import KnownSlices, series_section


def predict_scans(model: Any, data: Path, rows: Sequence[ManifestRow]) -> Scored:
    """Score scans, and the series that they make up, with a pyfunc from their file bytes.

    Returns:
        The pyfunc's rows, with `path`, `sha256`, `group` and `actual` in front, and its answers.
    """
    scored = score_slices(model, [data / row.path for row in rows], _names(rows))
    known = pd.DataFrame(
        [{"path": r.path, "sha256": r.sha256, "group": r.group, "actual": r.label} for r in rows]
    )
    return Scored(pd.concat([known, scored.rows], axis=1), scored.answers)


def series_of_test_split(
    answers: pd.DataFrame, data: Path, rows: Sequence[ManifestRow], card: Card
) -> dict[str, Any] | None:
    """Score the answers about the test scans' series; None for a model without a healthy class."""
    healthy = [card.classes[i] for i in healthy_indices(card.classes, card.healthy_classes)]
    if not healthy:
        return None
    slices = _known(data, rows, _names(rows), healthy)
    return series_section(answers, slices, healthy, card.series.threshold if card.series else None)


def _names(rows: Sequence[ManifestRow]) -> list[str | None]:
    """Name the series of a manifest's rows, see `series_names`."""
    keys = [(row.source, row.series) if row.series else None for row in rows]
    return series_names(keys, [row.sha256 for row in rows])


def _known(
    data: Path, rows: Sequence[ManifestRow], names: Sequence[str | None], healthy: Sequence[str]
) -> KnownSlices:
    """Return what an ingested folder says of slices.

    Args:
        data: what data_ingestion wrote; phantoms have masks there.
        rows: of the slices.
        names: of their series.
        healthy: names of the classes that are no disease.
    """
    positions = [np.nan if row.position_mm is None else row.position_mm for row in rows]
    return KnownSlices(
        series=names,
        patients=[row.patient for row in rows],
        groups=np.array([row.group for row in rows]),
        diseased=np.array([row.label not in healthy for row in rows]),
        lesion=masked(data, [row.sha256 for row in rows]),
        position_mm=np.array(positions, dtype=np.float64),
    )
