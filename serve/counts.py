"""What a request's facts say of its answers: each row and each series under one kind."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from serve.http.request_facts import (
    ANSWERED,
    FAILED,
    OUT_OF_DOMAIN,
    SKIPPED,
    UNDECIDED,
    current,
)


def count_answers(answer: pd.DataFrame) -> None:
    """Add the rows of an answer to the request's facts, each under one kind of answer.

    A row is failed before it is out of domain, and out of domain before it is undecided; only
    rows that are none of these are counted under their label. A slice that was skipped because
    others of its series lie close by is none of them.
    """
    facts = current()
    kinds = row_kinds(answer)
    facts.answers.update(kinds)
    if "label" in answer.columns:
        labels = zip(kinds, answer["label"], strict=True)
        facts.labels.update(str(label) for kind, label in labels if kind == ANSWERED)


def row_kinds(answer: pd.DataFrame) -> list[str]:
    """Return the kind of each row; models of older layouts have no column `undecided`."""

    def column(name: str) -> list[Any]:
        return list(answer[name]) if name in answer.columns else [None] * len(answer)

    names = ("error", "out_of_domain", "undecided", "skipped")
    return [row_kind(*flags) for flags in zip(*map(column, names), strict=True)]


def row_kind(error: Any, out_of_domain: Any, undecided: Any, skipped: Any = None) -> str:
    """Return which kind of answer a row is."""
    if not pd.isna(skipped) and skipped:
        return SKIPPED
    if not pd.isna(error):
        return FAILED
    if not pd.isna(out_of_domain) and out_of_domain:
        return OUT_OF_DOMAIN
    return UNDECIDED if not pd.isna(undecided) and undecided else ANSWERED


def count_series(entries: Iterable[dict[str, Any]]) -> None:
    """Add series to the request's facts, by kind of answer."""
    for entry in entries:
        kind = FAILED if entry["error"] else UNDECIDED if entry["undecided"] else ANSWERED
        current().series[kind] += 1
