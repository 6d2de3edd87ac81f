"""What a model must beat to be worth anything: the majority class, and brightness alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from model.images import decode_grey

NEIGHBOURS = 5


def majority_baseline(train_labels: Sequence[str], n_test: int) -> list[str]:
    """Predict the most frequent training label (first in the alphabet of equals) for everything."""
    counts = Counter(train_labels)
    label = min(counts, key=lambda name: (-counts[name], name))
    return [label] * n_test


def brightness_features(image: bytes) -> NDArray[np.float64]:
    """Return mean and standard deviation of a scan's grey levels, shape (2,), 0-255."""
    pixels = decode_grey(image).astype(np.float64)
    return np.array([pixels.mean(), pixels.std()])


def brightness_baseline(
    train_images: Iterable[bytes], train_labels: Sequence[str], test_images: Iterable[bytes]
) -> list[str]:
    """Predict labels from the mean and spread of brightness alone, by 5 nearest neighbours.

    Args:
        train_images: file contents of the training scans, in the order of `train_labels`.
        train_labels: their labels.
        test_images: file contents of the scans to predict.
    """
    classifier = make_pipeline(
        StandardScaler(), KNeighborsClassifier(n_neighbors=min(NEIGHBOURS, len(train_labels)))
    )
    classifier.fit(np.stack([brightness_features(image) for image in train_images]), train_labels)
    test = np.stack([brightness_features(image) for image in test_images])
    return [str(label) for label in classifier.predict(test)]
