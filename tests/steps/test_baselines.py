"""Baselines see what they say they see, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from steps.evaluation.baselines import (
    BASELINES,
    brightness,
    file_properties,
    measurements,
    nearest,
)

LABELS = np.array([0] * 12 + [1] * 8)


def test_majority_is_the_most_frequent_class() -> None:
    assert BASELINES["majority"](np.zeros((20, 1)), LABELS, np.zeros((3, 1))).tolist() == [0, 0, 0]


def test_brightness_tells_bright_from_dark_only() -> None:
    rng = np.random.default_rng(0)
    dark = [brightness(rng.integers(0, 90, (40, 50), dtype=np.uint8)) for _ in range(12)]
    bright = [brightness(rng.integers(90, 255, (60, 50), dtype=np.uint8)) for _ in range(8)]
    seen = np.array(dark + bright)
    asked = np.array([[45.0, 26.0], [172.0, 48.0]])
    assert nearest(seen, LABELS, asked).tolist() == [0, 1]
    assert brightness(np.full((4, 4), 7, dtype=np.uint8)).tolist() == [7, 0]


def test_file_properties_tell_formats() -> None:
    png = [file_properties(400 + i, 300, "RGBA", "PNG") for i in range(12)]
    jpeg = [file_properties(400 + i, 300, "RGB", "JPEG") for i in range(8)]
    asked = np.array([file_properties(405, 300, "RGB", "JPEG")])
    assert nearest(np.array(png + jpeg), LABELS, asked).tolist() == [1]


def test_thumbnail_finds_the_resized_scan() -> None:
    rng = np.random.default_rng(0)
    scans = [np.kron(rng.integers(0, 255, (8, 8)), np.ones((16, 16))) for _ in LABELS]
    seen = [measurements(s.astype(np.uint8), 1, 1, "L", "PNG") for s in scans]
    thumbnails = np.array([m["thumbnail_nearest_neighbour"] for m in seen])
    halved = scans[15][::2, ::2].astype(np.uint8)
    asked = measurements(halved, 1, 1, "L", "PNG")["thumbnail_nearest_neighbour"]
    assert nearest(thumbnails, LABELS, asked[np.newaxis], 1).tolist() == [LABELS[15]]


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_works_on_its_measurement(name: str) -> None:
    rng = np.random.default_rng(1)
    scans = rng.integers(0, 255, (20, 40, 50), dtype=np.uint8)
    seen = np.array([measurements(s, 50, 40, "L", "PNG")[name] for s in scans])
    called = BASELINES[name](seen, LABELS, seen[:6])
    assert called.shape == (6,)
    assert set(called) <= {0, 1}
