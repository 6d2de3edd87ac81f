"""95 % intervals in closed form, of few observations.

They have a width where a bootstrap has none: where every draw agrees, as when all answers are
right (ADR 58).
"""

from __future__ import annotations

from collections.abc import Sequence

from scipy.optimize import brentq

Z = 1.959963984540054  # 97.5 % quantile of the normal distribution


def share_interval(share: float, n: int) -> list[float]:
    """Return the interval of a share, whole or not, of n observations (Wilson 1927)."""
    z2 = Z**2 / n
    middle, half = share + z2 / 2, (z2 * (share * (1 - share) + z2 / 4)) ** 0.5
    return [max(0.0, (middle - half) / (1 + z2)), min(1.0, (middle + half) / (1 + z2))]


def mean_interval(values: Sequence[float], intervals: Sequence[Sequence[float]]) -> list[float]:
    """Return the interval of the mean of independent values that have intervals of their own.

    The distances to their ends add like variances (Zou & Donner 2008, "Construction of confidence
    limits about effect measures", Stat Med 27:1693-1702, equation 3).

    Args:
        values: such as the sensitivity and the specificity, whose mean is the balanced accuracy.
        intervals: of each value.
    """
    n = len(values)
    mean = sum(values) / n
    ends = list(zip(values, intervals, strict=True))
    below = sum((value - low) ** 2 for value, (low, _) in ends) ** 0.5 / n
    above = sum((high - value) ** 2 for value, (_, high) in ends) ** 0.5 / n
    return [max(0.0, mean - below), min(1.0, mean + above)]


def area_interval(area: float, positives: int, negatives: int) -> list[float]:
    """Return the interval of an area under the ROC curve.

    Method 5 of Newcombe 2006, "Confidence intervals for an effect size measure based on the
    Mann-Whitney statistic, part 2", Stat Med 25:559-573: the areas A that differ from the observed
    one by no more than Z standard deviations, those of Hanley & McNeil 1982 at A itself, with half
    of all observations, less one, in the place of each class's. As Wilson's of a share, which it is
    for one observation of each class, it has a width where the observed area is 1.

    Args:
        area: observed, 0-1.
        positives: observations of the disease, at least 1.
        negatives: observations without, at least 1.
    """
    upper = 1.0 - _lowest_area(1.0 - area, positives, negatives)
    return [_lowest_area(area, positives, negatives), upper]


def _lowest_area(area: float, positives: int, negatives: int) -> float:
    half = (positives + negatives) / 2 - 1

    def excess(a: float) -> float:
        spread = 1 + half * ((1 - a) / (2 - a) + a / (1 + a))
        return (area - a) ** 2 - Z**2 * a * (1 - a) * spread / (positives * negatives)

    # At an area of 1 it is 0 there as well, and negative just below.
    return 0.0 if area <= 0 else float(brentq(excess, 0.0, min(area, 1 - 1e-12)))
