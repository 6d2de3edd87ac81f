"""What answers without looking at the lungs would score: the floor under every number.

Each baseline is a plain function of training scans and scans to score, so that it can be put
beside the model in any protocol. A model that does not beat the brightness of a picture has
learned how the picture was exported.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

NEIGHBOURS = 5  # for measured numbers; odd, so that two classes never tie
THUMBNAIL_PX = 32

Labels = NDArray[np.int64]
Values = NDArray[np.float64]


def majority_baseline(train_labels: Labels, count: int) -> Labels:
    """Call every scan by the most frequent class of the training scans.

    Args:
        train_labels: class indices (n,).
        count: scans to score.

    Returns:
        Class indices (count,).
    """
    return np.full(count, np.bincount(train_labels).argmax(), dtype=np.int64)


def brightness_baseline(train: Values, train_labels: Labels, scored: Values) -> Labels:
    """Call scans by nothing but the mean and the spread of their brightness.

    Args:
        train: `brightness` of the training scans (n, 2).
        train_labels: class indices (n,).
        scored: `brightness` of the scans to score (m, 2).

    Returns:
        Class indices (m,): the majority of the 5 nearest training scans.
    """
    return _nearest(train, train_labels, scored, NEIGHBOURS)


def file_baseline(train: Values, train_labels: Labels, scored: Values) -> Labels:
    """Call scans by the size and the format of their files, see `file_properties`."""
    return _nearest(train, train_labels, scored, NEIGHBOURS)


def thumbnail_baseline(train: Values, train_labels: Labels, scored: Values) -> Labels:
    """Call scans as the one training scan whose 32 x 32 `thumbnail` is nearest."""
    return _nearest(train, train_labels, scored, 1)


def brightness(grey: NDArray[np.uint8]) -> Values:
    """Measure the mean and the standard deviation of a scan's grey levels, (2,), 0-255."""
    return np.array([grey.mean(), grey.std()])


def file_properties(width_px: int, height_px: int, mode: str, file_format: str) -> Values:
    """Describe a picture without its pixels: log size, log aspect ratio, JPEG or not, alpha."""
    return np.array(
        [
            np.log(width_px * height_px),
            np.log(width_px / height_px),
            float(file_format.upper() == "JPEG"),
            float("A" in mode),
        ]
    )


def thumbnail(grey: NDArray[np.uint8]) -> Values:
    """Shrink a scan to 32 x 32 grey levels, (1024,), 0-255."""
    small = Image.fromarray(grey).resize((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float64).ravel()


Baseline = Callable[[Values, Labels, Values], Labels]
# Name in scores.json -> how it decides. What each sees is measured by `measurements`.
BASELINES: dict[str, Baseline] = {
    "majority": lambda _, labels, scored: majority_baseline(labels, len(scored)),
    "brightness": brightness_baseline,
    "file_size_and_format": file_baseline,
    "thumbnail_nearest_neighbour": thumbnail_baseline,
}


def measurements(
    grey: NDArray[np.uint8], width_px: int, height_px: int, mode: str, file_format: str
) -> dict[str, Values]:
    """Measure what each of BASELINES looks at in one scan."""
    return {
        "majority": np.zeros(1),
        "brightness": brightness(grey),
        "file_size_and_format": file_properties(width_px, height_px, mode, file_format),
        "thumbnail_nearest_neighbour": thumbnail(grey),
    }


def _nearest(train: Values, train_labels: Labels, scored: Values, neighbours: int) -> Labels:
    """Vote among the nearest training scans, each column on the training scans' scale."""
    classifier = make_pipeline(
        StandardScaler(), KNeighborsClassifier(min(neighbours, len(train_labels)))
    )
    predicted: Labels = classifier.fit(train, train_labels).predict(scored).astype(np.int64)
    return predicted
