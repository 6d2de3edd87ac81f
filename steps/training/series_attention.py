"""Fit attention over the slices of series (Ilse et al. 2018, eq. 8), on features kept anyway."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.optimize import minimize

from model.series_answer import Attention
from steps.training.cross_validation import one_thread
from steps.training.series_bags import Bags

HIDDEN = 4  # units of the tanh layer; Ilse et al. had 128 and thousands of bags
COMPONENTS = 16  # of the features' covariance: what some dozens of patients can say something of
PENALTY = 0.01  # L2 on both layers
ITERATIONS = 60  # L-BFGS; the loss no longer changes in the third digit

Numbers = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Components:
    """Principal components of slices' features, whitened: what attention looks at."""

    mean: Numbers  # (features,)
    turn: Numbers  # (features, components)

    def values(self, features: NDArray[np.float32]) -> Numbers:
        """Return the components (n, components) of features (n, features)."""
        result: Numbers = (features - self.mean) @ self.turn
        return result


@dataclasses.dataclass(frozen=True)
class Layers:
    """Attention on components: out @ tanh(values @ kernel + bias)."""

    kernel: Numbers  # (components, HIDDEN)
    bias: Numbers  # (HIDDEN,)
    out: Numbers  # (HIDDEN,)

    def logits(self, values: Numbers) -> Numbers:
        """Compute the logit of each slice's weight (n,) from its components."""
        result: Numbers = np.tanh(values @ self.kernel + self.bias) @ self.out
        return result

    def on_features(self, components: Components) -> Attention:
        """Return the same attention on features as they come."""
        whole = components.turn @ self.kernel
        return Attention(
            whole.astype(np.float32),
            (self.bias - components.mean @ whole).astype(np.float32),
            self.out.astype(np.float32),
        )


def principal_components(features: NDArray[np.float32]) -> Components:
    """Find the components of features (n, features) that vary most."""
    with one_thread():
        mean = features.mean(axis=0, dtype=np.float64)
        centred = features - mean
        count = features.shape[1]
        variance, directions = eigh(
            centred.T @ centred / len(features),
            subset_by_index=[max(0, count - COMPONENTS), count - 1],
        )
        kept = variance > 1e-9 * max(float(variance.max()), 1e-12)
        return Components(mean, directions[:, kept] / np.sqrt(variance[kept]))


def fit_attention(
    values: Numbers,
    disease: Numbers,
    bags: Bags,
    weight: Numbers,
    seed: int,
) -> Layers:
    """Learn which slices to listen to.

    The score of a series is the attended mean of its slices' logits of disease; these stay as they
    are, so that a series' answer needs two numbers of each slice. The loss is the cross-entropy of
    score and label of the series.

    Args:
        values: components of slices (n, components).
        disease: their held-out logits of disease (n,).
        bags: the series to learn from.
        weight: of each series (series,).
        seed: of the start. One seed gives one result.
    """
    members = np.concatenate(bags.members)
    starts = np.cumsum([0, *(len(m) for m in bags.members[:-1])])
    of_bag = np.repeat(np.arange(len(bags.members)), [len(m) for m in bags.members])
    x, logit, sick = values[members], disease[members], bags.sick

    def loss(flat: Numbers) -> tuple[float, Numbers]:
        layers = _layers(flat, x.shape[1])
        hidden = np.tanh(x @ layers.kernel + layers.bias)
        raised = hidden @ layers.out
        raised = np.exp(raised - np.maximum.reduceat(raised, starts)[of_bag])
        share = raised / np.add.reduceat(raised, starts)[of_bag]
        score = np.add.reduceat(share * logit, starts)
        curve = flat[-2] * score + flat[-1]
        value = weight @ (np.logaddexp(0.0, curve) - sick * curve) / len(sick)
        value += PENALTY * ((layers.kernel**2).sum() + (layers.out**2).sum())
        slope = weight * (np.exp(-np.logaddexp(0.0, -curve)) - sick) / len(sick)
        to_share = flat[-2] * slope[of_bag] * share * (logit - score[of_bag])
        to_hidden = to_share[:, np.newaxis] * layers.out * (1 - hidden**2)
        gradient = [
            (x.T @ to_hidden + 2 * PENALTY * layers.kernel).ravel(),
            to_hidden.sum(axis=0),
            hidden.T @ to_share + 2 * PENALTY * layers.out,
            [slope @ score, slope.sum()],
        ]
        return float(value), np.concatenate(gradient)

    start = np.random.default_rng(seed).normal(0, 0.3, (x.shape[1] + 2) * HIDDEN + 2)
    start[-2:] = 1.0, 0.0  # slope and intercept of the curve
    with one_thread():
        found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": ITERATIONS})
    return _layers(found.x, x.shape[1])


def _layers(flat: Numbers, inputs: int) -> Layers:
    at = inputs * HIDDEN
    kernel = flat[:at].reshape(inputs, HIDDEN)
    return Layers(kernel, flat[at : at + HIDDEN], flat[at + HIDDEN : at + 2 * HIDDEN])
