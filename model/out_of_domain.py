"""Tell scans from pictures that the model was never meant for.

A network gives an answer to anything, a photograph too, and gives it confidently. So each picture
is also asked how far its features are from those of the training scans: deep nearest neighbours
(Sun et al. 2022, "Out-of-Distribution Detection with Deep Nearest Neighbors", section 3), on the
features that the head sees anyway. docs/adr/0051-out-of-domain.md has the alternatives' numbers.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

OUT_OF_DOMAIN = "out_of_domain.npz"
NEIGHBOURS = 3  # one stray training scan must not vouch for a stray picture
MARGIN = 1.1  # a new hospital's scans are farther than a new patient's from a known one
MAX_REFERENCES = 2000  # 1,024 features each as float16: 4 MB, 2 ms a scan


@dataclasses.dataclass(frozen=True)
class OutOfDomain:
    """Training features and the distance from them at which a picture is no chest CT."""

    references: NDArray[np.float16]  # unit vectors (n, features)
    threshold: float  # distance, 0-2

    @classmethod
    def read(cls, folder: Path) -> OutOfDomain | None:
        """Read what a model's network folder holds; None in a model without it."""
        path = folder / OUT_OF_DOMAIN
        if not path.is_file():
            return None
        with np.load(path, allow_pickle=False) as arrays:
            return cls(arrays["references"], float(arrays["threshold"]))

    def write(self, folder: Path) -> None:
        """Write into a model's network folder."""
        np.savez(
            folder / OUT_OF_DOMAIN,
            references=self.references,
            threshold=np.array(self.threshold),
        )

    def scores(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Measure how unlike the training scans pictures are: 0-2, see `neighbour_distances`."""
        return neighbour_distances(features, self._references)

    @functools.cached_property
    def _references(self) -> NDArray[np.float32]:
        return self.references.astype(np.float32)

    def flags(self, features: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Tell which pictures (n, features) are farther than the threshold."""
        return self.scores(features) > self.threshold


def unit_vectors(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale feature vectors (n, features) to length 1; a vector of zeros stays."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    result: NDArray[np.float32] = features / np.maximum(lengths, np.float32(1e-12))
    return result


def neighbour_distances(
    features: NDArray[np.float32],
    references: NDArray[np.float32],
    excluded: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """Average the Euclidean distances to the nearest references, between unit vectors.

    Args:
        features: (n, features), of any length.
        references: unit vectors (m, features).
        excluded: (n, m), pairs that do not count; a row keeps at least one. None counts all.

    Returns:
        (n,), 0 (a training scan) to 2.
    """
    # Not `@`: BLAS would wake a thread for it that spins for 0.1 s after each product, on a core
    # that the network computes on, and round otherwise for other numbers of rows.
    cosines = np.einsum("nk,mk->nm", unit_vectors(features), references)
    squared = np.maximum(2.0 - 2.0 * cosines.astype(np.float64), 0.0)
    if excluded is not None:
        squared[excluded] = np.inf
    nearest = np.sort(np.sqrt(squared), axis=1)[:, :NEIGHBOURS]
    counted = np.isfinite(nearest)
    total = np.where(counted, nearest, 0.0).sum(axis=1)
    result: NDArray[np.float64] = total / counted.sum(axis=1)
    return result


def fit_out_of_domain(
    features: NDArray[np.float32],
    groups: NDArray[np.str_],
    flagged_share: float,
    seed: int,
) -> OutOfDomain:
    """Choose references and threshold from training scans.

    Every scan is measured against the scans of other groups only, as a new patient would be. Half
    of the allowed share is kept back, and MARGIN added, because scans from elsewhere are farther.

    Args:
        features: (scans, views, features): each scan and its augmented views.
        groups: near-duplicates share one, (scans,).
        flagged_share: of chest CT that may be flagged at most, 0 to below 1.
        seed: of the choice among more than MAX_REFERENCES.

    Returns:
        What tells a picture from a scan. With one group only, nothing is ever flagged.
    """
    views = features.shape[1]
    references = unit_vectors(features.reshape(-1, features.shape[2]))
    reference_groups = groups.repeat(views)
    if len(references) > MAX_REFERENCES:
        chosen = np.random.default_rng(seed).choice(len(references), MAX_REFERENCES, replace=False)
        references, reference_groups = references[chosen], reference_groups[chosen]
    own = groups[:, np.newaxis] == reference_groups[np.newaxis]
    others = ~own.all(axis=1)
    if not others.any():
        return OutOfDomain(references.astype(np.float16), 2.0)
    distances = neighbour_distances(features[others, 0], references, own[others])
    threshold = MARGIN * float(np.quantile(distances, 1 - flagged_share / 2))
    return OutOfDomain(references.astype(np.float16), threshold)
