"""The head's training in Keras."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression

from model.keras_network import build_head
from steps.training.head import HeadSettings, class_weights, fit_head
from steps.training.whitening import whitening

SETTINGS = HeadSettings(
    epochs=150,
    batch_size=256,
    steps_per_epoch=0,
    learning_rate=0.1,
    l2=0.1,
    dropout=0.0,
    balanced_classes=True,
    patience=150,
)


def blobs(n: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return features of two unequal classes, far from standardised, one channel nearly dead."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.25).astype(np.int64)
    features = rng.normal(3, 2, (n, 8)) + labels[:, np.newaxis] * np.linspace(0, 2, 8)
    features[:, 7] = 0
    features[0, 7] = 1e-6
    return features.astype(np.float32), labels


def test_reaches_the_optimum_of_its_convex_loss() -> None:
    train, validation = blobs(256, 0), blobs(128, 1)
    head, history = fit_head(build_head(8, 2), train, validation, SETTINGS, seed=0)
    mean, deviation = train[0].mean(axis=0), train[0].std(axis=0)
    deviation = np.maximum(deviation, 0.01 * deviation.max())
    # Two softmax outputs with weights +w/2 and -w/2: l2 * 2 * |w/2|^2 = |w|^2 / (2 C n).
    best = LogisticRegression(C=1 / (SETTINGS.l2 * len(train[1])), class_weight="balanced")
    best.fit((train[0] - mean) / deviation, train[1])
    expected = best.decision_function((validation[0] - mean) / deviation)
    logits = head.logits(validation[0])
    assert logits[:, 1] - logits[:, 0] == pytest.approx(expected, abs=0.05)
    assert history[-1]["loss"] < history[0]["loss"]
    assert set(history[0]) == {"epoch", "loss", "accuracy", "val_loss", "val_accuracy"}


def test_one_seed_gives_one_head() -> None:
    settings = dataclasses.replace(SETTINGS, epochs=3, dropout=0.5)
    heads = [fit_head(build_head(8, 2), blobs(64, 0), None, settings, seed=5)[0] for _ in range(2)]
    np.testing.assert_array_equal(heads[0].kernel, heads[1].kernel)
    other, _ = fit_head(build_head(8, 2), blobs(64, 0), None, settings, seed=6)
    assert np.abs(other.kernel - heads[0].kernel).max() > 0


def test_stops_when_validation_no_longer_gains() -> None:
    train, validation = blobs(64, 0), blobs(32, 1)
    flipped = validation[0], 1 - validation[1]
    settings = dataclasses.replace(SETTINGS, patience=2)
    _, history = fit_head(build_head(8, 2), train, flipped, settings, seed=0)
    assert len(history) < 20


def test_steps_per_epoch_bounds_an_epoch() -> None:
    settings = dataclasses.replace(SETTINGS, epochs=2, steps_per_epoch=1, batch_size=4)
    _, history = fit_head(build_head(8, 2), blobs(64, 0), None, settings, seed=0)
    assert len(history) == 2


def test_class_weights_make_classes_count_the_same() -> None:
    labels = np.array([0] * 30 + [1] * 10)
    weights = class_weights(labels)
    assert 30 * weights[0] == pytest.approx(10 * weights[1])
    assert 30 * weights[0] + 10 * weights[1] == pytest.approx(40)


def test_a_strong_penalty_on_whitened_features_is_fishers_discriminant() -> None:
    rng = np.random.default_rng(0)
    labels = (np.arange(600) % 3 == 0).astype(np.int64)
    mixed = rng.normal(size=(600, 8)) @ rng.normal(size=(8, 8)) + 5
    features = (mixed + labels[:, np.newaxis] * np.linspace(0, 1, 8)).astype(np.float32)
    settings = dataclasses.replace(SETTINGS, l2=300.0, shrinkage=0.2, epochs=300)
    head, _ = fit_head(build_head(8, 2), (features, labels), None, settings, seed=0)
    standard = (features - features.mean(axis=0)) / features.std(axis=0)
    fisher = LinearDiscriminantAnalysis(solver="lsqr", covariance_estimator=_Shrunk(0.2))
    fisher.fit(standard, labels)
    ours = head.kernel[:, 1] - head.kernel[:, 0]
    theirs = fisher.coef_[0] / features.std(axis=0)
    cosine = ours @ theirs / np.linalg.norm(ours) / np.linalg.norm(theirs)
    assert cosine > 0.999
    plain = dataclasses.replace(settings, shrinkage=1.0)
    means, _ = fit_head(build_head(8, 2), (features, labels), None, plain, seed=0)
    other = means.kernel[:, 1] - means.kernel[:, 0]
    assert other @ theirs / np.linalg.norm(other) / np.linalg.norm(theirs) < 0.99


class _Shrunk:
    """The covariance estimator of `whitening`, in scikit-learn's form; its scale is free."""

    def __init__(self, shrinkage: float) -> None:
        self.shrinkage = shrinkage

    def fit(self, x: NDArray[np.float64]) -> _Shrunk:
        measured = np.cov(x.T, bias=True)
        size = np.trace(measured) / len(measured)
        identity = size * np.eye(len(measured))
        self.covariance_ = (1 - self.shrinkage) * measured + self.shrinkage * identity
        return self


def test_whitened_features_vary_alike_within_classes() -> None:
    rng = np.random.default_rng(1)
    labels = np.arange(2000) % 2
    features = rng.normal(size=(2000, 5)) @ rng.normal(size=(5, 5)) + labels[:, None] * 3 + 7
    white = whitening(features.astype(np.float32), labels, 1e-6).apply(features.astype(np.float32))
    within = white - np.stack([white[labels == c].mean(axis=0) for c in (0, 1)])[labels]
    covariance = within.T @ within / len(within)
    assert covariance / covariance[0, 0] == pytest.approx(np.eye(5), abs=0.02)
    plain = whitening(features.astype(np.float32), labels, 1.0).apply(features.astype(np.float32))
    assert plain.std(axis=0) == pytest.approx(np.ones(5), abs=1e-3)


def test_few_scans_are_whitened_by_the_same_covariance_as_many() -> None:
    """Below as many scans as half the features, the root comes of the scans' own products."""
    rng = np.random.default_rng(2)
    labels = np.arange(30) % 2
    features = (rng.normal(size=(30, 80)) * np.linspace(0.5, 3, 80) + 4).astype(np.float32)
    found = whitening(features, labels, 0.3)
    white = found.apply(features).astype(np.float64)
    standard = (features - features.mean(axis=0)) / features.std(axis=0)
    within = standard - np.stack([standard[labels == c].mean(axis=0) for c in (0, 1)])[labels]
    measured = within.T @ within / len(within)
    shrunk = 0.7 * measured * 80 / np.trace(measured) + 0.3 * np.eye(80)
    assert white @ white.T == pytest.approx(
        standard @ np.linalg.solve(shrunk, standard.T), abs=1e-2
    )
    kernel, bias = rng.normal(size=(80, 2)), np.array([0.5, -1.0])
    folded = found.folded(kernel, bias)
    assert folded.logits(features) == pytest.approx(white @ kernel + bias, abs=1e-3)
