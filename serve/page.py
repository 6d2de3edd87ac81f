"""The answer to the page's form where there is no JavaScript, as HTML."""

from __future__ import annotations

from typing import Any

from serve.http.html import html_page, percent

OPTIONAL_COLUMNS = ("error", "out_of_domain", "undecided")  # models of older layouts lack some
HEALTHY = "p_normal"


def results_page(rows: list[dict[str, Any]], about: dict[str, Any]) -> bytes:
    """Return the rows of one upload as a page.

    Args:
        rows: `file` and the pyfunc's columns, as POST /predict gives them to programs.
        about: the answer of GET /model.
    """
    complete = [shown(row, about["threshold"]) for row in rows]
    line = model_line(about)
    return html_page("results.html.j2", rows=complete, about=about, model_line=line)


def shown(row: dict[str, Any], threshold: float | None) -> dict[str, Any]:
    """Return a row with every column that the page shows, and with why it has its label."""
    complete = dict.fromkeys(OPTIONAL_COLUMNS) | row
    probabilities = {name: p for name, p in row.items() if name.startswith("p_") and p is not None}
    likeliest = all(p <= row["probability"] for p in probabilities.values())
    healthy = next((p for name, p in probabilities.items() if name.lower() == HEALTHY), None)
    why = ""
    if healthy is not None and threshold is not None:
        side = "below" if 1 - healthy < threshold else "at or above"
        why = (
            f"Probability of disease {percent(1 - healthy)}, {side} the model's threshold of "
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
