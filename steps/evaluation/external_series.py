"""The series of a set of scans from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from steps.evaluation.external_model import ExternalModel
from steps.evaluation.external_set import ExternalScan, diseased
from steps.evaluation.series import series_names
from steps.evaluation.series_scores import KnownSlices, series_section


def names_of_unseen(
    every: Sequence[ExternalScan], kept: Sequence[ExternalScan]
) -> tuple[list[str | None], int]:
    """Name the series of the scans that are left, where the model has seen nothing of them.

    A series of which a slice was left out, because the model's data set has it or its like, is not
    from elsewhere: its other slices are scored as slices only.

    Args:
        every: scan of the set.
        kept: those that the model has not seen, in the same order.

    Returns:
        Name of each kept scan's series, None where there is none to score; and how many series
        were partly seen.
    """
    names = series_names([scan.series for scan in every], [scan.sha256 for scan in every])
    by_digest = {scan.sha256: name for scan, name in zip(every, names, strict=True)}
    left = [by_digest[scan.sha256] for scan in kept]
    seen = {by_digest[digest] for digest in by_digest.keys() - {scan.sha256 for scan in kept}}
    partly = (seen & set(left)) - {None}
    return [None if name in partly else name for name in left], len(partly)


def series_of_set(
    model: ExternalModel,
    answers: pd.DataFrame,
    scans: Sequence[ExternalScan],
    names: Sequence[str | None],
    lesion: NDArray[np.bool_],
) -> dict[str, Any]:
    """Score the answers about a set's series, see `steps.evaluation.series_scores`."""
    positions = [np.nan if scan.position_mm is None else scan.position_mm for scan in scans]
    slices = KnownSlices(
        series=names,
        patients=[scan.patient or None for scan in scans],
        groups=np.array([scan.group for scan in scans]),
        diseased=diseased(scans, model.classes, model.healthy),
        lesion=lesion,
        position_mm=np.array(positions, dtype=np.float64),
    )
    return series_section(answers, slices, model.healthy, model.series_threshold)
