"""Logits to probabilities, probabilities to a label."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

HEALTHY = "normal"  # the folder name of scans without a finding


def probabilities(logits: NDArray[np.float32], temperature: float = 1.0) -> NDArray[np.float64]:
    """Turn logits into probabilities: softmax of logits / temperature (Guo et al. 2017, eq. 9).

    Args:
        logits: (n, classes).
        temperature: above 0; fitted on validation scans, 1 leaves the network's own confidence.

    Returns:
        (n, classes), each row summing to 1.
    """
    scaled = logits.astype(np.float64) / temperature
    raised = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    result: NDArray[np.float64] = raised / raised.sum(axis=1, keepdims=True)
    return result


def healthy_index(classes: Sequence[str]) -> int | None:
    """Return the position of the class `normal`, in any case of letters; None without one."""
    return next((i for i, name in enumerate(classes) if name.casefold() == HEALTHY), None)


def labels(
    p: NDArray[np.float64], classes: Sequence[str], threshold: float | None = None
) -> NDArray[np.intp]:
    """Choose a class for each row.

    Args:
        p: probabilities (n, classes).
        classes: names, in the order of the columns.
        threshold: the least probability of disease (1 - p of `normal`) at which a scan is called
            diseased, 0-1; None, or classes without `normal`, takes the most probable class.

    Returns:
        Positions in `classes`, (n,).
    """
    healthy = healthy_index(classes)
    if threshold is None or healthy is None:
        likeliest: NDArray[np.intp] = p.argmax(axis=1)
        return likeliest
    diseased = p.copy()
    diseased[:, healthy] = -1.0
    return np.where(1.0 - p[:, healthy] >= threshold, diseased.argmax(axis=1), healthy)


def disease_probability(p: NDArray[np.float64], classes: Sequence[str]) -> NDArray[np.float64]:
    """Return the probability of disease, (n,): 1 - p of `normal`.

    Two classes without `normal` have no healthy side; the second then counts as the disease.
    """
    healthy = healthy_index(classes)
    result: NDArray[np.float64] = p[:, -1] if healthy is None else 1.0 - p[:, healthy]
    return result
