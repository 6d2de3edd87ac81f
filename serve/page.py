"""The answer to the page's form where there is no JavaScript, as HTML."""

from __future__ import annotations

from html import escape
from typing import Any

from serve.http.errors import html_page


def results_page(rows: list[dict[str, Any]], about: dict[str, Any]) -> bytes:
    """Return the rows of one upload as a page.

    Args:
        rows: `file` and the pyfunc's columns, as POST /predict gives them to programs.
        about: the answer of GET /model.
    """
    cards = "\n".join(card(row) for row in rows)
    count = f"{len(rows)} scan{'s' * (len(rows) != 1)}"
    body = f"""<main class="wrap">
<h1>Results for {count}</h1>
<p class="notice"><strong>{escape(about["notice"])}</strong> {escape(model_line(about))}</p>
<ol class="cards">
{cards}
</ol>
<p><a class="button" href="./">Try other scans</a></p>
</main>"""
    return html_page("Results — chest CT", body)


def model_line(about: dict[str, Any]) -> str:
    """Return one line that says which model answered and what it was trained on."""
    digest = about["model_digest"]
    name = about["name"] or (digest[:12] if digest else "unregistered")
    version = f" version {about['version']}" if about["version"] else ""
    stage = f" ({about['stage']})" if about["stage"] else ""
    phantom = " Trained on synthetic phantom data, not on patients." if about["phantom"] else ""
    return f"Model: {name}{version}{stage}.{phantom}"


def card(row: dict[str, Any]) -> str:
    """Return one row as a list item."""
    name = f'<h2 class="file">{escape(row["file"] or "unnamed file")}</h2>'
    if row.get("error"):
        message = escape(str(row["error"]))
        text = f'<p class="bad">{message}</p>'
        return f'<li class="card failed"><div class="facts">{name}{text}</div></li>'
    warning = ""
    if row.get("out_of_domain"):
        warning = (
            '<p class="warn">This does not look like the scans the model was trained on: '
            "do not rely on the answer.</p>"
        )
    label, probability = escape(str(row["label"])), row["probability"]
    names = [key[2:] for key in row if key.startswith("p_")]
    bars = "".join(bar(name, row[f"p_{name}"], name == row["label"]) for name in names)
    return (
        f'<li class="card"><div class="facts">{name}'
        f'<p class="verdict"><strong>{label}</strong> {percent(probability)}</p>{warning}'
        f'<dl class="bars">{bars}</dl></div></li>'
    )


def bar(name: str, p: float, chosen: bool) -> str:
    """Return one class's probability as a term, a number and a meter."""
    text = percent(p)
    meter = f'<meter min="0" max="1" value="{p:.6f}" aria-label="{escape(name)}">{text}</meter>'
    kind = "bar chosen" if chosen else "bar"
    return f'<div class="{kind}"><dt>{escape(name)}</dt><dd><span>{text}</span>{meter}</dd></div>'


def percent(p: float) -> str:
    """Return a probability as a percentage that never rounds to certainty."""
    if 0 < p < 0.001:
        return "< 0.1 %"
    if 0.999 < p < 1:
        return "> 99.9 %"
    return f"{100 * p:.1f} %"
