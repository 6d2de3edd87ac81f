"""What a model is worth on a set of scans that it was not made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steps.training.bootstrap import (
    group_weights,
    interval_or,
    weighted_auc,
    weighted_share,
)
from steps.training.closed_forms import area_interval, mean_interval, share_interval
from steps.training.proportions import proportion

BINS = 10  # of predicted probability in the reliability table
SEED = 0  # of the bootstrap; intervals of one set are the same each time

Flags = NDArray[np.bool_]
Draws = NDArray[np.float64]


def external_scores(
    diseased: Flags,
    p_disease: NDArray[np.float64],
    called_diseased: Flags,
    out_of_domain: Flags,
    undecided: Flags | None,
    groups: NDArray[np.str_],
    threshold: float | None,
    prevalences: Sequence[float],
) -> dict[str, Any]:
    """Score answers about scans from elsewhere; what one class cannot tell is None.

    Args:
        diseased: what is known of each scan (n,); n is at least 1.
        p_disease: the model's probability of disease, 0-1 (n,).
        called_diseased: whether its label is a disease (n,).
        out_of_domain: whether it calls the scan unlike those it was trained on (n,).
        undecided: whether its prediction set is not one class (n,); None for a model without.
        groups: patients or near-duplicates (n,); intervals draw them whole.
        threshold: the model's own, on p_disease; None where it takes the likeliest class.
        prevalences: shares of diseased, above 0 and below 1, for predictive values.

    Returns:
        JSON-ready: see `_agreement` for the measures of all scans, and again of `in_domain` and
        `decided` ones; `calibration`, `out_of_domain`, `undecided`, `at_prevalence`.
    """
    every = np.ones(len(diseased), dtype=bool)
    weights = group_weights(groups, SEED)
    measure = _Answers(diseased, p_disease, called_diseased, groups, weights)
    result: dict[str, Any] = {
        "n": len(diseased),
        "groups": len(np.unique(groups)),
        "diseased": int(diseased.sum()),
        "threshold": threshold,
        **measure.agreement(every),
        "calibration": _calibration(diseased, p_disease, weights),
        "out_of_domain": _share_by_class(out_of_domain, diseased, groups, weights),
        "in_domain": measure.agreement(~out_of_domain),
        "undecided": None,
        "decided": None,
    }
    if undecided is not None:
        result["undecided"] = _share_by_class(undecided, diseased, groups, weights)
        result["decided"] = measure.agreement(~undecided & ~out_of_domain)
    result["at_prevalence"] = [
        _at_prevalence(prevalence, result, measure.rates(every), threshold)
        for prevalence in prevalences
    ]
    return result


class _Answers:
    """Answers and truth of a set, and the bootstrap's draws of its groups."""

    def __init__(
        self,
        diseased: Flags,
        p_disease: NDArray[np.float64],
        called: Flags,
        groups: NDArray[np.str_],
        weights: Draws,
    ) -> None:
        self.diseased, self.p, self.called = diseased, p_disease, called
        self.groups, self.weights = groups, weights

    def rates(self, of: Flags) -> tuple[Draws, Draws]:
        """Return sensitivity and specificity in each draw, (draws,) each; NaN where unknown."""
        sick, healthy = of & self.diseased, of & ~self.diseased
        return (
            weighted_share(self.weights[:, sick], self.called[sick]),
            weighted_share(self.weights[:, healthy], ~self.called[healthy]),
        )

    def agreement(self, of: Flags) -> dict[str, Any]:
        """Score some of the scans.

        Returns:
            `scans`, `roc_auc`, `sensitivity`, `specificity`, `balanced_accuracy`, each measure
            with `value` and `ci95` (bootstrap over groups), None where a class is missing.
        """
        sick, healthy = of & self.diseased, of & ~self.diseased
        found, cleared = self.rates(of)
        both = bool(sick.any() and healthy.any())
        sensitivity = share_by_group(self.called[sick], found, self.groups[sick])
        specificity = share_by_group(~self.called[healthy], cleared, self.groups[healthy])
        nothing = {"value": None, "ci95": None}
        return {
            "scans": int(of.sum()),
            "roc_auc": self._area(of) if both else nothing,
            "sensitivity": sensitivity,
            "specificity": specificity,
            "balanced_accuracy": (
                _mean((sensitivity, specificity), (found + cleared) / 2) if both else nothing
            ),
        }

    def _area(self, of: Flags) -> dict[str, Any]:
        return area_by_group(self.diseased[of], self.p[of], self.groups[of], self.weights[:, of])


def area_by_group(
    diseased: Flags, p_disease: NDArray[np.float64], groups: NDArray[np.str_], weights: Draws
) -> dict[str, Any]:
    """Return the area under the ROC curve with its interval by group; both classes must occur.

    Where every draw agrees, as at an area of 1, the interval is Newcombe's of as many observations
    of each class as it has groups.
    """
    score = p_disease[np.newaxis]
    area = float(weighted_auc(np.ones((1, len(diseased))), diseased, score)[0])
    sick, healthy = (len(np.unique(groups[of])) for of in (diseased, ~diseased))
    draws = weighted_auc(weights, diseased, score)
    return {"value": area, "ci95": interval_or(draws, lambda: area_interval(area, sick, healthy))}


def _mean(shares: Sequence[Mapping[str, Any]], draws: Draws) -> dict[str, Any]:
    """Return the mean of shares that `share_by_group` made."""
    values = [share["value"] for share in shares]
    return {
        "value": sum(values) / len(values),
        "ci95": interval_or(draws, lambda: mean_interval(values, [s["ci95"] for s in shares])),
    }


def share_by_group(right: Flags, draws: Draws, groups: NDArray[np.str_]) -> dict[str, Any]:
    """Return a share with its interval by group.

    Where every draw agrees, as when all or none are right or all are of one group, the bootstrap
    would claim to be certain; the interval is then Wilson's of as many observations as there are
    groups.
    """
    counted = proportion(int(right.sum()), len(right))
    if len(right) == 0:
        return counted
    n = len(np.unique(groups))
    found = interval_or(draws, lambda: share_interval(counted["value"], n))
    return counted | {"ci95": found or share_interval(counted["value"], n)}


def _share_by_class(
    flags: Flags, diseased: Flags, groups: NDArray[np.str_], weights: Draws
) -> dict[str, Any]:
    """Return how many of all, of the diseased and of the healthy scans are flagged."""
    return {
        name: share_by_group(flags[of], weighted_share(weights[:, of], flags[of]), groups[of])
        for name, of in (
            ("all", np.ones(len(flags), dtype=bool)),
            ("diseased", diseased),
            ("healthy", ~diseased),
        )
    }


def _calibration(diseased: Flags, p_disease: NDArray[np.float64], weights: Draws) -> dict[str, Any]:
    """Compare probabilities of disease with how many are diseased.

    Returns:
        `brier` (mean squared error of p, Brier 1950), `ece` (mean gap between predicted and
        observed share over ten bins, weighted by size), `mean_probability`, `share_diseased`,
        and the bins as `reliability`.
    """
    error = (p_disease - diseased) ** 2
    bins = np.minimum((p_disease * BINS).astype(int), BINS - 1)
    rows = [
        {
            "probability": float(p_disease[bins == b].mean()),
            "diseased": float(diseased[bins == b].mean()),
            "n": int((bins == b).sum()),
        }
        for b in np.unique(bins)
    ]
    return {
        "brier": {
            "value": float(error.mean()),
            # Draws agree of one group only, and that says nothing of others.
            "ci95": interval_or(weighted_share(weights, error), lambda: None),
        },
        "ece": sum(row["n"] * abs(row["probability"] - row["diseased"]) for row in rows)
        / len(diseased),
        "mean_probability": float(p_disease.mean()),
        "share_diseased": float(diseased.mean()),
        "reliability": rows,
    }


def _at_prevalence(
    prevalence: float,
    scores: Mapping[str, Any],
    draws: tuple[Draws, Draws],
    threshold: float | None,
) -> dict[str, Any]:
    """Return what an answer means where this share of the examined is diseased.

    Predictive values by Bayes' theorem from sensitivity and specificity. Where every draw agrees,
    as the negative predictive value's do when nothing diseased was missed, the interval is what
    both lower and both upper ends of these two give. Net benefit (Vickers &
    Elkin 2006): true positives less false positives, these weighed by the odds of the threshold,
    per examined scan; beside it that of calling every scan diseased. Calling none has 0.
    """
    cut = 0.5 if threshold is None else threshold
    odds = cut / (1 - cut) if cut < 1 else np.inf
    result: dict[str, Any] = {"prevalence": prevalence}
    se, sp = scores["sensitivity"]["value"], scores["specificity"]["value"]
    if se is None or sp is None:
        result |= {name: {"value": None, "ci95": None} for name in ("ppv", "npv", "net_benefit")}
    else:
        low, high = zip(scores["sensitivity"]["ci95"], scores["specificity"]["ci95"], strict=True)
        pairs = np.array([(se, sp), low, high]).T  # all three measures rise with both
        in_draws = _predictive(*draws, prevalence, odds)
        result |= {
            name: {
                "value": float(value) if np.isfinite(value) else None,
                "ci95": interval_or(in_draws[name], partial(_finite, ends)),
            }
            for name, (value, *ends) in _predictive(pairs[0], pairs[1], prevalence, odds).items()
        }
    everyone = prevalence - (1 - prevalence) * odds
    result["net_benefit_if_all_are_called_diseased"] = (
        float(everyone) if np.isfinite(everyone) else None
    )
    return result


def _finite(ends: Sequence[float]) -> list[float] | None:
    return [float(end) for end in ends] if np.isfinite(ends).all() else None


def _predictive(se: Draws, sp: Draws, prevalence: float, odds: float) -> dict[str, Draws]:
    """Return `ppv`, `npv` and `net_benefit` of pairs of sensitivity and specificity."""
    true_positive, false_positive = prevalence * se, (1 - prevalence) * (1 - sp)
    true_negative, false_negative = (1 - prevalence) * sp, prevalence * (1 - se)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "ppv": true_positive / (true_positive + false_positive),
            "npv": true_negative / (true_negative + false_negative),
            "net_benefit": true_positive - false_positive * odds,
        }
