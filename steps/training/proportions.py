"""Proportions with their intervals: what both training and evaluation count."""

from __future__ import annotations

from typing import Any

from scipy.stats import binomtest


def wilson_interval(successes: int, n: int) -> tuple[float, float] | None:
    """Return the 95 % interval of a proportion (Wilson 1927); None when n is 0."""
    if n == 0:
        return None
    interval = binomtest(successes, n).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def proportion(successes: int, n: int) -> dict[str, Any]:
    """Return a proportion with its Wilson interval: `value`, `ci95`, `successes`, `n`."""
    interval = wilson_interval(successes, n)
    return {
        "value": successes / n if n else None,
        "ci95": list(interval) if interval else None,
        "successes": successes,
        "n": n,
    }
