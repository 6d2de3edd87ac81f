"""Fit attention over the slices of series (Ilse et al. 2018, eq. 8), on features kept anyway."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from model.series_answer import Attention
from steps.training.cross_validation import one_thread
from steps.training.series_bags import Bags

HIDDEN = 4  # units of the tanh layer; Ilse et al. had 128 and thousands of bags
COMPONENTS = 16  # of the features' covariance: what some dozens of patients can say something of
PENALTY = 0.01  # L2 on both layers
ITERATIONS = 60  # L-BFGS; the loss no longer changes in the third digit

Numbers = NDArray[np.float64]


def fit_attention(
    vectors: NDArray[np.float32],
    disease: Numbers,
    bags: Bags,
    sick: NDArray[np.bool_],
    weight: Numbers,
    seed: int,
) -> Attention:
    """Learn which slices to listen to.

    The score of a series is the attended mean of its slices' logits of disease; these stay as they
    are, so that a series' answer needs two numbers of each slice. The loss is the cross-entropy of
    score and label of the series.

    Args:
        vectors: features of slices (n, features).
        disease: their held-out logits of disease (n,).
        bags: the series to learn from.
        sick: which of them are diseased (series,).
        weight: of each series (series,).
        seed: of the start. One seed gives one result.

    Returns:
        The attention, on features as they come.
    """
    members = np.concatenate(bags.members)
    starts = np.cumsum([0, *(len(m) for m in bags.members[:-1])])
    of_bag = np.repeat(np.arange(len(bags.members)), [len(m) for m in bags.members])
    with one_thread():
        mean, turn = _principal(vectors[members])
        x, logit = (vectors[members] - mean) @ turn, disease[members]

        def loss(flat: Numbers) -> tuple[float, Numbers]:
            kernel, bias, out = _parts(flat, x.shape[1])
            hidden = np.tanh(x @ kernel + bias)
            raised = hidden @ out
            raised = np.exp(raised - np.maximum.reduceat(raised, starts)[of_bag])
            share = raised / np.add.reduceat(raised, starts)[of_bag]
            score = np.add.reduceat(share * logit, starts)
            curve = flat[-2] * score + flat[-1]
            value = weight @ (np.logaddexp(0.0, curve) - sick * curve) / len(sick)
            value += PENALTY * ((kernel**2).sum() + (out**2).sum())
            slope = weight * (np.exp(-np.logaddexp(0.0, -curve)) - sick) / len(sick)
            to_share = flat[-2] * slope[of_bag] * share * (logit - score[of_bag])
            to_hidden = to_share[:, np.newaxis] * out * (1 - hidden**2)
            gradient = np.concatenate(
                [
                    (x.T @ to_hidden + 2 * PENALTY * kernel).ravel(),
                    to_hidden.sum(axis=0),
                    hidden.T @ to_share + 2 * PENALTY * out,
                    [slope @ score, slope.sum()],
                ]
            )
            return float(value), gradient

        start = np.random.default_rng(seed).normal(0, 0.3, (x.shape[1] + 2) * HIDDEN + 2)
        start[-2:] = 1.0, 0.0
        found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": ITERATIONS})
        kernel, bias, out = _parts(found.x, x.shape[1])
        whole = turn @ kernel
    return Attention(
        whole.astype(np.float32),
        (bias - mean @ whole).astype(np.float32),
        out.astype(np.float32),
    )


def _parts(flat: Numbers, inputs: int) -> tuple[Numbers, Numbers, Numbers]:
    """Divide the parameters into kernel (inputs, HIDDEN), bias and output weights (HIDDEN,)."""
    at = inputs * HIDDEN
    kernel = flat[:at].reshape(inputs, HIDDEN)
    return kernel, flat[at : at + HIDDEN], flat[at + HIDDEN : at + 2 * HIDDEN]


def _principal(features: NDArray[np.float32]) -> tuple[Numbers, Numbers]:
    """Return the mean (features,) and a turn (features, components) to whitened components."""
    mean = features.mean(axis=0, dtype=np.float64)
    _, deviation, directions = np.linalg.svd(features - mean, full_matrices=False)
    kept = min(COMPONENTS, int((deviation > 1e-6 * max(deviation[0], 1e-12)).sum()) or 1)
    scale = np.maximum(deviation[:kept], 1e-12) / np.sqrt(len(features))
    return mean, directions[:kept].T / scale
