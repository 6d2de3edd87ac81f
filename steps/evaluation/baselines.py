"""What a model must beat to be worth anything: answers that do not look at the lungs.

A model that does not beat the brightness of a picture has learned how the picture was exported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from model.body import body_box
from model.decoding.scan_file import decode_grey

NEIGHBOURS = 5  # for measured numbers; odd, so that two classes never tie
THUMBNAIL_PX = 32

Labels = NDArray[np.int64]
Values = NDArray[np.float64]
Baseline = Callable[[Values, Labels, Values], Labels]


def majority_baseline(train_labels: Sequence[str], n_test: int) -> list[str]:
    """Predict the most frequent training label (first in the alphabet of equals) for everything."""
    counts = Counter(train_labels)
    label = min(counts, key=lambda name: (-counts[name], name))
    return [label] * n_test


def brightness_baseline(
    train_images: Iterable[bytes], train_labels: Sequence[str], test_images: Iterable[bytes]
) -> list[str]:
    """Predict labels from the mean and spread of brightness alone, by 5 nearest neighbours.

    Args:
        train_images: file contents of the training scans, in the order of `train_labels`.
        train_labels: their labels.
        test_images: file contents of the scans to predict.
    """
    names, train = np.unique(np.array(train_labels), return_inverse=True)
    called = nearest(
        np.stack([brightness(decode_grey(image)) for image in train_images]),
        train.astype(np.int64),
        np.stack([brightness(decode_grey(image)) for image in test_images]),
    )
    return [str(names[index]) for index in called]


def nearest(
    train: Values, train_labels: Labels, scored: Values, neighbours: int = NEIGHBOURS
) -> Labels:
    """Let the nearest training scans vote, each column on the training scans' scale.

    Args:
        train: measurements (n, values).
        train_labels: class indices (n,).
        scored: measurements of the scans to call (m, values).
        neighbours: how many vote.

    Returns:
        Class indices (m,).
    """
    classifier = make_pipeline(
        StandardScaler(), KNeighborsClassifier(min(neighbours, len(train_labels)))
    )
    called: Labels = classifier.fit(train, train_labels).predict(scored).astype(np.int64)
    return called


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


def framing(grey: NDArray[np.uint8]) -> Values:
    """Measure where the body lies in a picture: left, top, right, bottom, (4,), 0-1."""
    return np.array(body_box(grey), dtype=np.float64)


def thumbnail(grey: NDArray[np.uint8]) -> Values:
    """Shrink a scan to 32 x 32 grey levels, (1024,), 0-255."""
    small = Image.fromarray(grey).resize((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float64).ravel()


# Name in scores.json -> how it decides from what `measurements` measured under that name.
BASELINES: dict[str, Baseline] = {
    "majority": lambda _, labels, scored: np.full(len(scored), np.bincount(labels).argmax()),
    "brightness": nearest,
    "framing": nearest,
    "file_size_and_format": nearest,
    "thumbnail_nearest_neighbour": lambda train, labels, scored: nearest(train, labels, scored, 1),
}


def measurements(
    grey: NDArray[np.uint8], width_px: int, height_px: int, mode: str, file_format: str
) -> dict[str, Values]:
    """Measure what each of BASELINES looks at in one scan."""
    return {
        "majority": np.zeros(1),
        "brightness": brightness(grey),
        "framing": framing(grey),
        "file_size_and_format": file_properties(width_px, height_px, mode, file_format),
        "thumbnail_nearest_neighbour": thumbnail(grey),
    }
