"""What a trained model knows about its own limits: how sure it may be, and of which pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from model.out_of_domain import OutOfDomain, fit_out_of_domain
from scans.manifest import ManifestRow
from steps.training.calibration import Calibration, calibrate
from steps.training.features import FeatureSet
from steps.training.head import HeadSettings


def fit_operating_limits(
    features: FeatureSet,
    rows: Sequence[ManifestRow],
    classes: Sequence[str],
    head_settings: HeadSettings,
    sensitivity: float,
    flagged_share: float,
    undecided_error_rate: float,
    healthy: Sequence[str],
    seed: int,
    kept: NDArray[np.bool_] | None = None,
) -> tuple[Calibration, OutOfDomain]:
    """Fit temperature, threshold and the distance beyond which a picture is no scan.

    Args:
        features: of the training and validation scans.
        rows: of the same scans, in the same order.
        classes: names in the order of the head's outputs.
        head_settings: of the head that is served; cross-validated heads have the same loss.
        sensitivity: that the threshold is surely to reach, 0-1.
        flagged_share: of chest CT that may be called out of domain at most, 0-1.
        undecided_error_rate: share of each class that prediction sets may miss, 0-1.
        healthy: names of the classes that are no disease.
        seed: of folds and draws.
        kept: the scans whose own labels are known (n,), see steps.training.multiple_instance; None
            keeps all. The distance is of all scans.
    """
    groups = np.array([row.group for row in rows])
    labels = np.array([classes.index(row.label) for row in rows], dtype=np.int64)
    some = slice(None) if kept is None else kept
    calibration = calibrate(
        features.vectors[some],
        labels[some],
        groups[some],
        classes,
        l2=head_settings.l2,
        balanced=head_settings.balanced_classes,
        sensitivity=sensitivity,
        seed=seed,
        shrinkage=head_settings.shrinkage,
        undecided_error_rate=undecided_error_rate,
        healthy=healthy,
    )
    return calibration, fit_out_of_domain(features.vectors, groups, flagged_share, seed)
