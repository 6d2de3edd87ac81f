"""The answer to the page's form where there is no JavaScript, as HTML."""

from __future__ import annotations

from typing import Any

from serve.http.html import html_page

OPTIONAL_COLUMNS = ("error", "out_of_domain", "undecided")  # models of older layouts lack some


def results_page(rows: list[dict[str, Any]], about: dict[str, Any]) -> bytes:
    """Return the rows of one upload as a page.

    Args:
        rows: `file` and the pyfunc's columns, as POST /predict gives them to programs.
        about: the answer of GET /model.
    """
    complete = [dict.fromkeys(OPTIONAL_COLUMNS) | row for row in rows]
    line = model_line(about)
    return html_page("results.html.j2", rows=complete, about=about, model_line=line)


def model_line(about: dict[str, Any]) -> str:
    """Return one line that says which model answered and what it was trained on."""
    digest = about["model_digest"]
    name = about["name"] or (digest[:12] if digest else "unregistered")
    version = f" version {about['version']}" if about["version"] else ""
    stage = f" ({about['stage']})" if about["stage"] else ""
    phantom = " Trained on synthetic phantom data, not on patients." if about["phantom"] else ""
    return f"Model: {name}{version}{stage}.{phantom}"
