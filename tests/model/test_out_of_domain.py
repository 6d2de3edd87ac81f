"""Pictures far from the training scans are flagged; scans like them are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from model.out_of_domain import (
    MAX_REFERENCES,
    OutOfDomain,
    fit_out_of_domain,
    neighbour_distances,
    unit_vectors,
)


def scans(n: int, seed: int) -> NDArray[np.float32]:
    """Return features (n, 2 views, 32) of scans: around one direction."""
    rng = np.random.default_rng(seed)
    centre = np.linspace(1, 2, 32)
    return (centre + rng.normal(0, 0.1, (n, 2, 32))).astype(np.float32)


def test_flags_what_is_unlike_the_scans() -> None:
    fitted = fit_out_of_domain(scans(200, 0), np.arange(200).astype(str), 0.02, seed=0)
    assert fitted.flags(scans(500, 1)[:, 0]).mean() <= 0.02
    strange = np.abs(np.random.default_rng(2).normal(size=(50, 32))).astype(np.float32)
    assert fitted.flags(strange).all()


def test_a_score_does_not_depend_on_the_rows_beside_it() -> None:
    rng = np.random.default_rng(0)
    references = unit_vectors(rng.random((250, 512), dtype=np.float32))
    features = rng.random((16, 512), dtype=np.float32)
    together = neighbour_distances(features, references)
    alone = [neighbour_distances(row[np.newaxis], references)[0] for row in features]
    assert together.tolist() == alone


def test_a_darker_picture_is_as_near() -> None:
    fitted = fit_out_of_domain(scans(50, 0), np.arange(50).astype(str), 0.02, seed=0)
    features = scans(5, 1)[:, 0]
    assert fitted.scores(features * 0.5) == pytest.approx(fitted.scores(features), abs=1e-5)


def test_near_duplicates_do_not_vouch_for_each_other() -> None:
    once = scans(40, 0)
    twice = np.concatenate([once, once])
    apart = fit_out_of_domain(twice, np.arange(80).astype(str), 0.02, seed=0)
    together = fit_out_of_domain(twice, np.tile(np.arange(40), 2).astype(str), 0.02, seed=0)
    assert together.threshold > apart.threshold


def test_one_group_flags_nothing() -> None:
    fitted = fit_out_of_domain(scans(4, 0), np.array(["a"] * 4), 0.02, seed=0)
    assert not fitted.flags(np.eye(32, dtype=np.float32)).any()


def test_keeps_a_bounded_number_of_references() -> None:
    fitted = fit_out_of_domain(scans(1100, 0), np.arange(1100).astype(str), 0.02, seed=0)
    assert len(fitted.references) == MAX_REFERENCES


def test_distance_averages_the_nearest_that_count() -> None:
    references = unit_vectors(np.eye(4, dtype=np.float32))
    features = np.array([[2.0, 0, 0, 0]], dtype=np.float32)
    right_angle = np.sqrt(2)
    assert neighbour_distances(features, references) == pytest.approx([2 * right_angle / 3])
    without_itself = np.array([[True, False, False, False]])
    assert neighbour_distances(features, references, without_itself) == pytest.approx([right_angle])


def test_survives_being_written(tmp_path: Path) -> None:
    assert OutOfDomain.read(tmp_path) is None
    fitted = fit_out_of_domain(scans(20, 0), np.arange(20).astype(str), 0.02, seed=0)
    fitted.write(tmp_path)
    read = OutOfDomain.read(tmp_path)
    assert read is not None
    features = scans(5, 3)[:, 0]
    np.testing.assert_array_equal(read.scores(features), fitted.scores(features))
    assert read.threshold == fitted.threshold
