"""Slices scored together with their series, and what the pyfunc answers per series."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

BATCH = 64  # slices handed to the pyfunc at a time
PREDICTIONS = "series_predictions.csv"
# Columns of a row that speak of its series: of the part of it that one call held.
SERIES_COLUMNS = (
    "series", "series_label", "series_probability", "series_undecided", "key_slice",
    "position_mm", "skipped", "attention",
)  # fmt: skip

Answerer = Callable[[pd.DataFrame], pd.DataFrame]


@dataclass(frozen=True)
class Scored:
    """Scored slices.

    Attributes:
        rows: the pyfunc's row of each slice, in order; one that its series had no need of is scored
            like the others.
        answers: one row per series, as the model's `series_rows` gives it; None where no series is
            known, or the model answers none.
    """

    rows: pd.DataFrame
    answers: pd.DataFrame | None


def series_names(keys: Sequence[Hashable | None], digests: Sequence[str]) -> list[str | None]:
    """Name each slice's series after the smallest digest in it, as groups are named.

    The name says nothing of a patient, and two sources may call different series the same.

    Args:
        keys: what tells the series of a set apart, for each slice; None where unknown.
        digests: SHA-256 of each slice, hexadecimal.
    """
    smallest: dict[Hashable, str] = {}
    for key, digest in zip(keys, digests, strict=True):
        smallest[key] = min(smallest.get(key, digest), digest)
    return [None if key is None else f"s{smallest[key][:12]}" for key in keys]


def score_slices(pyfunc: Any, paths: Sequence[Path], series: Sequence[str | None]) -> Scored:
    """Score slices from their file bytes, and the series that they make up.

    Slices go to the pyfunc with their series; those that the model leaves out of a series, because
    others lie close by, are scored once more by themselves, so that each slice has an answer.

    Args:
        pyfunc: a loaded model.
        paths: of the files.
        series: name of each slice's series, None where unknown.
    """
    answerer = series_answerer(pyfunc) if any(series) else None
    if answerer is None:
        return Scored(_predict(pyfunc, paths), None)
    rows = _predict(pyfunc, paths, series)
    answers = answerer(rows)
    skipped = [
        place for place, value in enumerate(rows["skipped"]) if value is not None and bool(value)
    ]
    rows = rows.drop(columns=[name for name in SERIES_COLUMNS if name in rows])
    if len(skipped):
        alone = _predict(pyfunc, [paths[i] for i in skipped])
        rows.loc[skipped, :] = alone[rows.columns].to_numpy(dtype=object)
    return Scored(rows, answers)


def series_answerer(pyfunc: Any) -> Answerer | None:
    """Return the model's own `series_rows`; None for one that was saved without."""
    found: Answerer | None = getattr(pyfunc.unwrap_python_model(), "series_rows", None)
    return found


def answers_by_digest(answers: pd.DataFrame, digests: Sequence[str]) -> pd.DataFrame:
    """Return the answers as a table for a file: the key slice by digest, as predictions are."""
    keys = [None if pd.isna(place) else digests[int(place)] for place in answers["key_slice"]]
    key_slice = pd.Series(keys, index=answers.index, dtype=object)
    return answers.assign(key_slice=key_slice).rename(columns={"key_slice": "key_slice_sha256"})


def _predict(
    pyfunc: Any, paths: Sequence[Path], series: Sequence[str | None] | None = None
) -> pd.DataFrame:
    parts = []
    for start in range(0, len(paths), BATCH):
        some = slice(start, start + BATCH)
        images = pd.DataFrame({"image": [path.read_bytes() for path in paths[some]]})
        if series is not None:
            images["series"] = pd.Series(list(series[some]), dtype=object)
        parts.append(pyfunc.predict(images))
    return pd.concat(parts, ignore_index=True)
