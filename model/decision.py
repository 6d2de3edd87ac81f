"""Logits to probabilities, probabilities to a label."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

HEALTHY = "normal"  # the folder name of scans without a finding
BENIGN = ("benign*", "bengin*")  # findings that are no disease; IQ-OTH/NCCD's folder is misspelt


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


def healthy_classes(classes: Sequence[str], patterns: Sequence[str] = (HEALTHY,)) -> list[str]:
    """Return the classes that are no disease, in order.

    Args:
        classes: names.
        patterns: of healthy ones, in any case of letters, with the wildcards * ? [ ]. Benign
            findings (BENIGN) are no disease either, wherever there is a healthy class.
    """

    def matching(wanted: Sequence[str]) -> list[str]:
        return [
            name
            for name in classes
            if any(fnmatch.fnmatchcase(name.casefold(), w.casefold()) for w in wanted)
        ]

    return matching([*patterns, *BENIGN]) if matching(patterns) else []


def healthy_indices(classes: Sequence[str], healthy: Sequence[str] = ()) -> list[int]:
    """Return the positions of the healthy classes; none where no class is healthy.

    Args:
        classes: names.
        healthy: names of the healthy ones; without them, what `healthy_classes` takes for healthy.
    """
    chosen = healthy or healthy_classes(classes)
    return [place for place, name in enumerate(classes) if name in chosen]


def healthy_index(classes: Sequence[str]) -> int | None:
    """Return the position of the class `normal`, in any case of letters; None without one."""
    return next((i for i, name in enumerate(classes) if name.casefold() == HEALTHY), None)


def labels(
    p: NDArray[np.float64],
    classes: Sequence[str],
    threshold: float | None = None,
    healthy: Sequence[str] = (),
    *,
    stored: bool = False,
) -> NDArray[np.intp]:
    """Choose a class for each row.

    Args:
        p: probabilities (n, classes).
        classes: names, in the order of the columns.
        threshold: the least probability of disease (1 - p of the healthy classes) at which a scan
            is called diseased, 0-1; None, or classes of which none is healthy, takes the most
            probable class.
        healthy: names of the healthy classes, see `healthy_indices`.
        stored: whether the threshold is the model's own: then a scan whose most probable class is
            a disease is called diseased whatever the threshold.

    Returns:
        Positions in `classes`, (n,).
    """
    likeliest: NDArray[np.intp] = p.argmax(axis=1)
    sound = healthy_indices(classes, healthy)
    if threshold is None or not sound or len(sound) == len(classes):
        return likeliest
    is_sound = np.isin(np.arange(len(classes)), sound)
    sick = disease_probability(p, classes, healthy) >= threshold
    if stored:
        sick |= ~is_sound[likeliest]
    diseased = np.where(is_sound, -1.0, p).argmax(axis=1)
    result: NDArray[np.intp] = np.where(sick, diseased, np.where(is_sound, p, -1.0).argmax(axis=1))
    return result


def disease_probability(
    p: NDArray[np.float64], classes: Sequence[str], healthy: Sequence[str] = ()
) -> NDArray[np.float64]:
    """Return the probability of disease, (n,): 1 - p of the healthy classes.

    Two classes none of which is healthy: the second then counts as the disease.
    """
    sound = healthy_indices(classes, healthy)
    result: NDArray[np.float64] = 1.0 - p[:, sound].sum(axis=1) if sound else p[:, -1]
    return result
