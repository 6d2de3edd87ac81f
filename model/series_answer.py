"""From the slices of a series to one calibrated probability of disease.

A series is a bag of slices of which some may show disease: multiple-instance learning. Training
chooses the aggregation among four by cross-validation over patients
(docs/adr/0070-one-answer-per-series.md) and stores it here:

- maximum: the slice that is most suspicious speaks for all;
- top_mean: the mean of the `top` most suspicious slices;
- noisy_or: 1 - prod(1 - p), as if each slice could cause the disease on its own (Pearl 1988);
- attention: a weighted mean, the weights learned (Ilse et al. 2018, "Attention-based Deep Multiple
  Instance Learning", eq. 8). Its classifier is linear, so it needs two numbers of each slice only:
  the logit of its weight, and the logit of disease.

Every one of them gives a score in logits, which a logistic curve calibrates (Platt 1999).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from .conformal import Conformal
from .decision import healthy_indices

Aggregation = Literal["maximum", "top_mean", "noisy_or", "attention"]
AGGREGATIONS: tuple[Aggregation, ...] = get_args(Aggregation)  # from the simplest
ATTENTION = "series_attention.npz"
SUREST = 1e-6  # probabilities are kept this far from 0 and 1, so that their logits are numbers


@dataclasses.dataclass(frozen=True)
class SeriesAnswer:
    """What a model's card stores under `series`."""

    aggregation: Aggregation
    top: int = 1  # slices that `top_mean` averages
    slope: float = 1.0  # of the calibration: logit of disease = slope * score + intercept
    intercept: float = 0.0
    threshold: float | None = None  # on the probability of disease; None: the likeliest class
    conformal: Conformal | None = None  # when a series is undecided; None: it is never said

    def __post_init__(self) -> None:
        """Refuse an aggregation that this code does not have."""
        if self.aggregation not in AGGREGATIONS:
            raise ValueError(
                f"Expected an aggregation of {', '.join(AGGREGATIONS)}; received "
                f"{self.aggregation!r}. Train the model again."
            )

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> SeriesAnswer:
        """Build from what a card stores."""
        conformal = fields.get("conformal")
        if conformal is not None:
            conformal = Conformal(conformal["error_rate"], tuple(conformal["quantiles"]))
        return cls(**fields | {"conformal": conformal})

    def probability(
        self, disease: NDArray[np.float64], attention: NDArray[np.float64] | None = None
    ) -> float:
        """Compute the calibrated probability of disease of one series.

        Args:
            disease: probability of disease of each slice that counts (n,), n at least 1.
            attention: logit of each slice's weight (n,), where the aggregation is attention.
        """
        score = aggregated(logits(disease), attention, self.aggregation, self.top)
        return float(expit(self.slope * score + self.intercept))

    def speaks_most(
        self, disease: NDArray[np.float64], attention: NDArray[np.float64] | None = None
    ) -> NDArray[np.float64]:
        """Rank slices (n,) by how much they speak for disease: the largest is the key slice."""
        if self.aggregation != "attention" or attention is None:
            return disease
        return attention + np.log(np.maximum(disease, SUREST))  # of weight times probability


@dataclasses.dataclass(frozen=True)
class Attention:
    """Features to the logit of a slice's weight: weight @ tanh(features @ kernel + bias)."""

    kernel: NDArray[np.float32]  # (features, hidden)
    bias: NDArray[np.float32]  # (hidden,)
    weight: NDArray[np.float32]  # (hidden,)

    @classmethod
    def read(cls, folder: Path) -> Attention | None:
        """Read what a model's network folder holds; None in a model without it."""
        path = folder / ATTENTION
        if not path.is_file():
            return None
        with np.load(path, allow_pickle=False) as arrays:
            return cls(arrays["kernel"], arrays["bias"], arrays["weight"])

    def write(self, folder: Path) -> None:
        """Write into a model's network folder."""
        np.savez(folder / ATTENTION, kernel=self.kernel, bias=self.bias, weight=self.weight)

    def logits(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Compute the logit of each slice's weight (n,) from features (n, features).

        Row by row, for the reason given at `artefact.Head.logits`.
        """
        return np.array(
            [self.weight @ np.tanh(vector @ self.kernel + self.bias) for vector in features],
            dtype=np.float64,
        )


def aggregated(
    logit: NDArray[np.float64],
    attention: NDArray[np.float64] | None,
    aggregation: Aggregation,
    top: int = 1,
) -> float:
    """Compute the score of one series.

    Args:
        logit: of disease, of each slice that counts (n,), n at least 1.
        attention: logit of each slice's weight (n,); None where it is not needed.
        aggregation: see the top of this file.
        top: see `SeriesAnswer`.

    Returns:
        In logits. The order of the slices does not change a digit.

    Raises:
        ValueError: attention is wanted and its logits are missing.
    """
    if aggregation == "attention":
        if attention is None or not np.isfinite(attention).all():
            raise ValueError(
                "Expected the column `attention` in the rows of scored slices; send rows as this "
                "model made them."
            )
        order = np.lexsort((attention, logit))
        weight = np.exp(attention[order] - attention.max())
        return float((weight * logit[order]).sum() / weight.sum())
    falling = np.sort(logit)[::-1]
    if aggregation == "maximum":
        return float(falling[0])
    if aggregation == "top_mean":
        return float(falling[:top].mean())
    none = -np.logaddexp(0.0, falling).sum()  # log of the probability that no slice shows disease
    return float(np.log(-np.expm1(none)) - none)


def class_probabilities(
    p_disease: float, p: NDArray[np.float64], classes: Sequence[str], healthy: Sequence[str]
) -> NDArray[np.float64]:
    """Share a series' probability of disease among the classes.

    The diseases get shares as the slices have them, each slice weighing as much as it shows
    disease; the healthy classes get what is left, as the slices have them.

    Args:
        p_disease: of the series.
        p: of the slices that count (n, classes).
        classes: names, in the order of the columns.
        healthy: names of the healthy ones, see decision.py.

    Returns:
        (classes,), summing to 1. The order of the slices does not change a digit.
    """
    sound = healthy_indices(classes, healthy) or list(range(len(classes) - 1))  # see decision.py
    is_sound = np.isin(np.arange(len(classes)), sound)
    sick = p[:, ~is_sound].sum(axis=1)
    order = np.lexsort(p.T)
    weighted = (p[order] * sick[order, np.newaxis]).sum(axis=0)
    shares: NDArray[np.float64] = np.where(is_sound, p[order].sum(axis=0), weighted)
    shares += 1e-300  # no division by 0 where p is 0
    shares[is_sound] *= (1 - p_disease) / shares[is_sound].sum()
    shares[~is_sound] *= p_disease / shares[~is_sound].sum()
    return shares


def logits(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn probabilities into logits, within about -13.8 and 13.8."""
    kept = np.clip(p, SUREST, 1 - SUREST)
    result: NDArray[np.float64] = np.log(kept) - np.log1p(-kept)
    return result


def expit(logit: float) -> float:
    """Turn a logit into a probability."""
    return float(np.exp(-np.logaddexp(0.0, -logit)))
