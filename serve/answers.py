"""What an answer says, in words, for pages that the server makes.

`static/answer.js` says the same on the page.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

HEALTHY = re.compile("normal|benign|bengin", re.IGNORECASE)  # where a model names no healthy class
LEAST = 0.01  # that is told from none by a model without scores
SERIES_THRESHOLD = "the series' threshold"
MOSTLY = 0.5  # share of a series' scored slices out of domain above which the series is


def least_share(about: dict[str, Any]) -> float:
    """Return the smallest share that a model's calibration can tell from none, in whole percent.

    It is that of one scan among as many as the smaller side of the test split has.

    Args:
        about: the answer of GET /model.
    """
    scores = about.get("scores") or {}
    counts = [(scores.get(name) or {}).get("n") for name in ("sensitivity", "specificity")]
    return least_of(counts) or LEAST


def least_share_of_series(about: dict[str, Any]) -> float:
    """Return the same for probabilities of series, as far as the test split had series."""
    level = ((about.get("scores") or {}).get("series") or {}).get("series")
    if not level:
        return least_share(about)
    return least_of([level["diseased"], level["n"] - level["diseased"]]) or least_share(about)


def least_of(counts: Sequence[int | None]) -> float | None:
    """Return the share of one among as many as the smallest count, in whole percent."""
    known = [n for n in counts if n]
    return math.ceil(100 / (min(known) + 1)) / 100 if known else None


def percent(p: float, least: float = 0.01, digits: int = 0) -> str:
    """Return a probability with no more digits than the calibration supports."""
    if p < least:
        return f"< {100 * least:.0f} %"
    if p > 1 - least:
        return f"> {100 * (1 - least):.0f} %"
    return f"{100 * p:.{digits}f} %"


def healthy_classes(classes: Sequence[str], about: dict[str, Any]) -> list[str]:
    """Return which classes are no disease."""
    named = about.get("healthy_classes") or []
    return [name for name in classes if (name in named if named else HEALTHY.match(name))]


def disease_probability(row: dict[str, Any], about: dict[str, Any]) -> float | None:
    """Return what a row's healthy classes leave of 1; None where none is healthy."""
    classes = [name.removeprefix("p_") for name in row if name.startswith("p_")]
    healthy = [row[f"p_{name}"] for name in healthy_classes(classes, about)]
    if not healthy or None in healthy:
        return None
    return min(1.0, max(0.0, 1.0 - math.fsum(healthy)))


def beside(p: float, threshold: float, least: float, of: str = "the model's threshold") -> str:
    """Return on which side of a threshold a probability lies, with digits enough to see it."""
    texts = [(percent(p, least, d), f"{100 * threshold:.{d}f} %") for d in range(4)]
    shown, limit = next(((a, b) for a, b in texts if a != b), texts[0])
    side = "below" if p < threshold else "at or above"
    return f"Probability of disease {shown}, {side} {of} of {limit}"


def why_label(row: dict[str, Any], about: dict[str, Any]) -> str:
    """Return one sentence that says why a slice has its label; empty where no class is healthy."""
    p, threshold = disease_probability(row, about), about.get("threshold")
    if p is None or threshold is None:
        return ""
    against = p < threshold and not healthy_classes([row["label"]], about)
    so = "; the label is a disease because a disease is the likeliest class" if against else ""
    return f"{beside(p, threshold, least_share(about))}{so}."


def series_threshold(about: dict[str, Any]) -> float | None:
    """Return a series' threshold on the probability of disease."""
    threshold: float | None = (about.get("series") or {}).get("threshold")
    return about.get("series_threshold") if threshold is None else threshold


def why_series(answer: dict[str, Any], about: dict[str, Any]) -> str:
    """Return one sentence that says why a series has its label."""
    p, threshold = answer.get("probability"), series_threshold(about)
    least = least_share_of_series(about)
    if p is None:
        return ""
    if threshold is None:
        return f"Probability of disease {percent(p, least)}."
    return f"{beside(p, threshold, least, SERIES_THRESHOLD)}."


def kind_of(row: dict[str, Any]) -> str:
    """Return which kind of answer a slice has."""
    if row.get("error"):
        return "failed"
    for kind in ("skipped", "out_of_domain", "undecided"):
        if row.get(kind):
            return kind
    return "answered"


def kind_of_series(answer: dict[str, Any]) -> str:
    """Return which kind of answer a series has.

    Returns:
        `failed`; `unanswered`: its slices are answered, the series is not; `out_of_domain`: most
        of its slices are; `undecided`; `answered`.
    """
    if answer.get("error") or not answer.get("label"):
        return "unanswered" if answer.get("scored") else "failed"
    if (answer.get("out_of_domain_share") or 0) > MOSTLY:
        return "out_of_domain"
    return "undecided" if answer.get("undecided") else "answered"
