"""Augmented views."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from model.preprocessing import Preprocessing
from steps.training.augmentation import Augmentation, Donors, matched_histogram, scan_and_views

NONE = Augmentation(
    views=1,
    flip=False,
    rotation_deg=0,
    shift=0,
    zoom=0,
    brightness=0,
    histogram_match=0,
    contrast=0,
)
PLAIN = Preprocessing(64, 0, 0, crop="fixed", contrast_kind="stretched")


@pytest.fixture
def grey() -> NDArray[np.uint8]:
    levels = np.zeros((64, 64), np.uint8)
    levels[8:24, 8:40] = 255
    levels[40:56, 30:50] = 128
    return levels


def views(grey: NDArray[np.uint8], settings: Augmentation, seed: int = 0) -> NDArray[np.uint8]:
    donors = Donors([("a", 255 - grey), ("b", grey // 2)])
    return scan_and_views(grey, PLAIN, settings, donors, np.random.default_rng(seed))


def test_first_comes_the_scan_itself(grey: NDArray[np.uint8]) -> None:
    strong = dataclasses.replace(NONE, views=3, rotation_deg=40, brightness=0.4)
    result = views(grey, strong)
    assert result.shape == (4, 64, 64, 3)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result[0, :, :, 0], grey)


def test_without_changes_a_view_is_the_scan(grey: NDArray[np.uint8]) -> None:
    original, view = views(grey, NONE)
    np.testing.assert_array_equal(view, original)


@pytest.mark.parametrize(
    "change",
    [
        {"flip": True},
        {"rotation_deg": 20.0},
        {"shift": 0.2},
        {"zoom": 0.3},
        {"brightness": 0.3},
        {"contrast": 0.5},
        {"histogram_match": 1.0},
    ],
    ids=lambda change: next(iter(change)),
)
def test_each_parameter_changes_the_view(grey: NDArray[np.uint8], change: dict[str, float]) -> None:
    result = views(grey, dataclasses.replace(NONE, views=6, **change))  # type: ignore[arg-type]
    assert any((view != result[0]).any() for view in result[1:])


def test_flip_mirrors_left_and_right(grey: NDArray[np.uint8]) -> None:
    result = views(grey, dataclasses.replace(NONE, views=8, flip=True))
    mirrored = result[0][:, ::-1]
    kinds = [
        "same" if (v == result[0]).all() else "mirrored" if (v == mirrored).all() else "other"
        for v in result[1:]
    ]
    assert set(kinds) == {"same", "mirrored"}


def test_one_seed_draws_the_same_views(grey: NDArray[np.uint8]) -> None:
    strong = dataclasses.replace(NONE, views=2, rotation_deg=30, zoom=0.2, contrast=0.3)
    np.testing.assert_array_equal(views(grey, strong, 3), views(grey, strong, 3))
    assert (views(grey, strong, 3) != views(grey, strong, 4)).any()


def test_matching_a_histogram_gives_the_donors_tones_and_keeps_the_order() -> None:
    rng = np.random.default_rng(0)
    scan = rng.integers(0, 100, (80, 80)).astype(np.uint8)
    donor = rng.integers(120, 250, (60, 90)).astype(np.uint8)
    cumulative = np.cumsum(np.bincount(donor.ravel(), minlength=256)) / donor.size
    matched = matched_histogram(scan, cumulative)
    assert np.percentile(matched, [10, 50, 90]) == pytest.approx(
        np.percentile(donor, [10, 50, 90]), abs=3
    )
    order = np.argsort(scan.ravel(), kind="stable")
    assert (np.diff(matched.ravel()[order].astype(int)) >= 0).all()
