"""The answer to the page's form where there is no JavaScript, as HTML."""

from __future__ import annotations

import math
from typing import Any

from serve.http.html import html_page, percent
from serve.predict import Answer

OPTIONAL_COLUMNS = ("error", "out_of_domain", "undecided")  # models of older layouts lack some


def results_page(answer: Answer, about: dict[str, Any]) -> bytes:
    """Return the answer to one upload as a page.

    Args:
        answer: as POST /predict gives it to programs.
        about: the answer of GET /model.
    """
    rows = [row for row in answer.rows if not row.get("skipped")]
    return html_page(
        "results.html.j2",
        rows=[shown(row, about) for row in rows],
        series=answer.series or [],
        left_out=answer.left_out,
        about=about,
        model_line=model_line(about),
    )


def shown(row: dict[str, Any], about: dict[str, Any]) -> dict[str, Any]:
    """Return a row with every column that the page shows, and with why it has its label."""
    complete = dict.fromkeys(OPTIONAL_COLUMNS) | row
    probabilities = {name: p for name, p in row.items() if name.startswith("p_") and p is not None}
    likeliest = all(p <= row["probability"] for p in probabilities.values())
    healthy = [probabilities.get(f"p_{name}") for name in about["healthy_classes"]]
    threshold, why = about["threshold"], ""
    if healthy and None not in healthy and threshold is not None:
        disease = 1 - math.fsum(p for p in healthy if p is not None)
        side = "below" if disease < threshold else "at or above"
        why = (
            f"Probability of disease {percent(disease)}, {side} the model's threshold of "
            f"{percent(threshold)}."
        )
    return complete | {"likeliest": likeliest, "why": why}


def model_line(about: dict[str, Any]) -> str:
    """Return one line that says which model answered and what it was trained on."""
    digest = about["model_digest"]
    name = about["name"] or (digest[:12] if digest else "unregistered")
    version = f" version {about['version']}" if about["version"] else ""
    stage = f" ({about['stage']})" if about["stage"] else ""
    phantom = " SYNTHETIC: trained on synthetic phantom data, not on patients."
    return f"Model: {name}{version}{stage}.{phantom if about['phantom'] else ''}"
