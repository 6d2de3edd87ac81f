"""The answer to the page's form where there is no JavaScript, as plain tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from serve.answers import (
    kind_of,
    kind_of_series,
    least_share,
    percent,
    why_label,
    why_series,
)
from serve.http.html import html_page
from serve.predict import Answer

UNLIKE = "This does not look like the scans the model was trained on: do not rely on the answer."
UNCERTAIN = (
    "The model cannot tell the classes apart here at the error rate it was made for: do not rely "
    "on the likelier one."
)
SKIPPED = "Not scored: a neighbour of its series was."


def results_page(answer: Answer, about: dict[str, Any]) -> bytes:
    """Return the answer to one upload as a page.

    Args:
        answer: as POST /predict gives it to programs.
        about: the answer of GET /model.
    """
    rows = answer.rows
    classes = [name for row in rows[:1] for name in row if name.startswith("p_")]
    return html_page(
        "results.html.j2",
        rows=[shown(row, classes, about) for row in rows],
        classes=[in_words(name.removeprefix("p_")) for name in classes],
        series=[shown_series(one, about) for one in answer.series or []],
        left_out=answer.left_out,
        notice=about["notice"],
        model_line=model_line(about),
    )


def in_words(name: str) -> str:
    """Return a class name as people write it."""
    return name.replace(".", " ").replace("_", " ")


def answer_in_words(kind: str, label: str | None) -> str:
    """Return an answer: what must not be relied on comes before the label."""
    heads = {"out_of_domain": "Out of domain", "undecided": "Undecided"}
    if kind in heads:
        return f"{heads[kind]}; nearest label: {in_words(label or '')}"
    return in_words(label or "")


def shown(row: dict[str, Any], classes: Sequence[str], about: dict[str, Any]) -> dict[str, Any]:
    """Return what the page's table shows of a row."""
    kind, least = kind_of(row), least_share(about)
    remarks = {
        "failed": row.get("error"),
        "skipped": SKIPPED,
        "out_of_domain": UNLIKE,
        "undecided": UNCERTAIN,
    }
    scored = kind not in ("failed", "skipped")
    return {
        "file": row.get("file") or "unnamed file",
        "kind": kind,
        "answer": answer_in_words(kind, row.get("label")) if scored else "",
        "p": [percent(row[name], least) if scored else "" for name in classes],
        "remark": remarks[kind] if kind in remarks else why_label(row, about),
    }


def shown_series(answer: dict[str, Any], about: dict[str, Any]) -> dict[str, Any]:
    """Return what the page's table shows of a series."""
    kind = kind_of_series(answer)
    remarks = {"out_of_domain": UNLIKE, "undecided": UNCERTAIN}
    if kind in ("failed", "unanswered"):
        why = answer.get("error") or "This series has no answer."
    else:
        why = " ".join(filter(None, (remarks.get(kind), why_series(answer, about))))
    return {
        "series": answer["series"],
        "kind": kind,
        "answer": answer_in_words(kind, answer.get("label")) if answer.get("label") else "",
        "why": why,
        "counts": ", ".join(
            f"{answer[name]} {word}"
            for name, word in (("scored", "scored"), ("skipped", "skipped"), ("failed", "failed"))
            if answer.get(name)
        ),
        "slices": answer.get("slices"),
        "key_slice": answer.get("key_slice"),
    }


def model_line(about: dict[str, Any]) -> str:
    """Return one line that says which model answered and what it was trained on."""
    digest = about["model_digest"]
    name = about["name"] or (digest[:12] if digest else "unregistered")
    version = f" version {about['version']}" if about["version"] else ""
    stage = f" ({about['stage']})" if about["stage"] else ""
    phantom = " SYNTHETIC: trained on synthetic phantom data, not on patients."
    return f"Model: {name}{version}{stage}.{phantom if about['phantom'] else ''}"
