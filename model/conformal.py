"""Say "undecided" at a stated error rate: class-conditional split conformal prediction.

For each class, held-out scans of that class tell how unlikely the model may hold it and still be
wrong about it no more often than the error rate says (Vovk 2012, "Conditional validity of inductive
conformal predictors", section 4; Angelopoulos & Bates 2021, "A gentle introduction to conformal
prediction", section 4.2, with their score 1 - p). The classes that a scan may so belong to are its
prediction set. The promise holds for scans like the held-out ones, not for other hospitals' scans.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True)
class Conformal:
    """What a model's card stores under `conformal`."""

    error_rate: (
        float  # largest share of a class's scans whose set lacks that class, above 0, below 1
    )
    quantiles: tuple[float, ...]  # of 1 - p of the true class, per class in the card's order, 0-1

    def prediction_sets(self, p: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Tell which classes each scan may belong to.

        Args:
            p: probabilities (n, classes), after the temperature, as rows show them.

        Returns:
            (n, classes), true for each class in the set: none, one or several of a row.
        """
        sets: NDArray[np.bool_] = 1.0 - p <= np.array(self.quantiles)
        return sets

    def undecided(self, p: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Tell which scans (n,) have a prediction set that is not exactly one class."""
        result: NDArray[np.bool_] = self.prediction_sets(p).sum(axis=1) != 1
        return result


def fit_conformal(
    p: NDArray[np.float64], actual: NDArray[np.int64], error_rate: float
) -> Conformal:
    """Choose each class's quantile from held-out scans.

    The quantile is the ceil((n + 1)(1 - error_rate))-th smallest score of the class's n scans. With
    fewer than 1 / error_rate - 1 scans there is none, and the class is in every set.

    Args:
        p: probabilities (n, classes) of scans that neither the network nor the temperature has
            seen, one per independent group where scans resemble each other.
        actual: true classes (n,).
        error_rate: above 0, below 1.

    Returns:
        What the card stores.

    Raises:
        ValueError: the error rate is out of range.
    """
    if not 0 < error_rate < 1:
        raise ValueError(f"Expected an error rate above 0 and below 1; received {error_rate:g}.")
    quantiles = []
    for index in range(p.shape[1]):
        scores = np.sort(1.0 - p[actual == index, index])
        rank = math.ceil((len(scores) + 1) * (1 - error_rate) - 1e-9)  # of 0.9 * 10, for one
        quantiles.append(float(scores[rank - 1]) if rank <= len(scores) else 1.0)
    return Conformal(error_rate, tuple(quantiles))
