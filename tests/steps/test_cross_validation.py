"""Cross-validated heads: at the optimum, blind to their own groups."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold

from model.keras_network import build_head
from steps.training.cross_validation import (
    QuickGroupKFold,
    grouped_folds,
    held_out_logits,
    solve_head,
)
from steps.training.head import HeadSettings, fit_head
from steps.training.logistic import solve_logistic


def scans(n: int, seed: int, gap: float = 2.0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return features (n, 2, 6) of a scan and a view, and labels of two unequal classes."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(n) % 4 == 0).astype(np.int64)
    centre = rng.normal(3, 2, (n, 1, 6)) + gap * labels[:, np.newaxis, np.newaxis]
    return (centre + rng.normal(0, 0.1, (n, 2, 6))).astype(np.float32), labels


def test_solves_the_loss_that_keras_trains_on() -> None:
    vectors, labels = scans(120, 0)
    x = vectors[:, 0]
    head = solve_head(x, labels, 2, l2=0.1, balanced=True)
    best = LogisticRegression(C=1 / (0.1 * len(x)), class_weight="balanced", tol=1e-8)
    standard = (x - x.mean(axis=0)) / x.std(axis=0)
    expected = best.fit(standard, labels).decision_function(standard)
    logits = head.logits(x)
    assert logits[:, 1] - logits[:, 0] == pytest.approx(expected, abs=0.01)


def test_folds_keep_groups_whole_and_cover_every_scan() -> None:
    _, labels = scans(60, 0)
    groups = (np.arange(60) // 3).astype(str)
    held_out_once = np.zeros(60, dtype=int)
    for train, held_out in grouped_folds(labels, groups, seed=1):
        assert not set(groups[train]) & set(groups[held_out])
        held_out_once[held_out] += 1
    assert (held_out_once == 1).all()


def test_a_scan_is_scored_by_a_head_that_did_not_see_its_group() -> None:
    """With noise for features, copies in the same fold leak nothing: chance is all there is."""
    rng = np.random.default_rng(0)
    vectors = np.repeat(rng.normal(size=(60, 1, 40)).astype(np.float32), 2, axis=0)
    labels = np.repeat(rng.integers(0, 2, 60), 2)
    options = {"l2": 1e-3, "balanced": True, "seed": 0}
    whole = held_out_logits(vectors, labels, np.repeat(np.arange(60), 2), 2, **options)
    torn = held_out_logits(vectors, labels, np.arange(120), 2, **options)
    assert (whole.argmax(axis=1) == labels).mean() < 0.7
    assert (torn.argmax(axis=1) == labels).mean() > 0.85


def test_too_few_groups_leave_scans_unscored() -> None:
    vectors, labels = scans(20, 0)
    logits = held_out_logits(vectors, labels, labels.astype(str), 2, l2=0.1, balanced=True, seed=0)
    assert np.isnan(logits).all()


@pytest.mark.parametrize("seed", range(8))
def test_folds_are_those_of_scikit_learn(seed: int) -> None:
    """For groups of one and of many, for even classes and uneven ones."""
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, rng.integers(20, 120), 150)
    labels = rng.integers(0, 2 + seed % 2, 150)
    options = {"shuffle": True, "random_state": seed}
    expected = StratifiedGroupKFold(5, **options).split(labels, labels, groups)
    found = QuickGroupKFold(5, **options).split(labels, labels, groups)
    for (train, held_out), (quick_train, quick_held_out) in zip(expected, found, strict=True):
        assert train.tolist() == quick_train.tolist()
        assert held_out.tolist() == quick_held_out.tolist()


@pytest.mark.parametrize("shrinkage", [0.3, 0.95])
def test_solves_what_keras_trains_on_whitened_features_too(shrinkage: float) -> None:
    vectors, labels = scans(120, 0)
    x = vectors[:, 0]
    settings = HeadSettings(
        epochs=200, batch_size=512, steps_per_epoch=0, learning_rate=0.1, l2=3.0, dropout=0.0,
        balanced_classes=True, patience=0, shrinkage=shrinkage,
    )  # fmt: skip
    trained, _ = fit_head(build_head(6, 2), (x, labels), None, settings, seed=0)
    solved = solve_head(x, labels, 2, 3.0, True, shrinkage)
    assert trained.logits(x) == pytest.approx(solved.logits(x), abs=0.01)


def by_hand(
    x: NDArray[np.float64], labels: NDArray[np.int64], l2: float, weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return probabilities at the minimum of the head's loss, found by L-BFGS on its definition."""
    classes = int(labels.max()) + 1
    one_hot, shape = np.eye(classes)[labels], (x.shape[1] + 1, classes)

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        kernel, bias = flat.reshape(shape)[:-1], flat.reshape(shape)[-1]
        log_p = log_softmax(x @ kernel + bias, axis=1)
        error = weights[:, np.newaxis] * (np.exp(log_p) - one_hot)
        gradient = np.vstack([x.T @ error + 2 * l2 * kernel, error.sum(axis=0)])
        return -(weights * log_p[one_hot > 0]).sum() + l2 * (kernel**2).sum(), gradient.ravel()

    options = {"maxiter": 5000, "gtol": 1e-8, "ftol": 1e-14}
    found = minimize(loss, np.zeros(np.prod(shape)), jac=True, method="L-BFGS-B", options=options)
    solution = found.x.reshape(shape)
    return np.exp(log_softmax(x @ solution[:-1] + solution[-1], axis=1))


@pytest.mark.parametrize("classes", [2, 3, 4])
@pytest.mark.parametrize("l2", [0.001, 0.1, 10.0])
def test_the_library_finds_the_minimum_of_the_heads_own_loss(classes: int, l2: float) -> None:
    rng = np.random.default_rng(classes)
    labels = rng.permutation(np.arange(90) % (classes + 1) % classes)
    x = rng.normal(size=(90, 30)) + 0.4 * labels[:, np.newaxis]
    weights = rng.uniform(0.5, 2, 90) / 90
    kernel, bias = solve_logistic(x, labels, classes, l2, weights)
    p = np.exp(log_softmax(x @ kernel + bias, axis=1))
    assert p == pytest.approx(by_hand(x, labels, l2, weights), abs=1e-3)


def test_a_class_without_scans_is_never_the_answer() -> None:
    vectors, labels = scans(60, 0)
    head = solve_head(vectors[:, 0], labels * 2, 3, l2=0.1, balanced=True)
    assert set(head.logits(vectors[:, 0]).argmax(axis=1)) == {0, 2}
    alone = solve_head(vectors[:, 0], np.ones_like(labels), 2, l2=0.1, balanced=True)
    assert set(alone.logits(vectors[:, 0]).argmax(axis=1)) == {1}
