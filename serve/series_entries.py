"""What an answer says of each series: the model's answer, its key slice's file, and its curve."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import pandas as pd

from serve.counts import count_series
from serve.scoring import SERIES
from serve.series import POSITION

Row = dict[str, Any]

KEY_SLICE = "key_slice"
# Columns of a slice's row that hold its series' answer, and where that stands in `series_rows`.
OF_SERIES = {
    "series_label": "label",
    "series_probability": "probability",
    "series_undecided": "undecided",
}


def json_value(value: Any) -> Any:
    """Return one cell of a pyfunc's answer as a JSON value; what is missing is None, never NaN."""
    if value is None or (isinstance(value, float) and math.isnan(value)) or value is pd.NA:
        return None
    return value.item() if hasattr(value, "item") else value


def json_rows(frame: pd.DataFrame) -> list[Row]:
    """Return a table as JSON objects."""
    columns = [str(name) for name in frame.columns]
    return [
        dict(zip(columns, (json_value(cell) for cell in row), strict=True))
        for row in frame.itertuples(index=False, name=None)
    ]


def with_series_answers(rows: pd.DataFrame, series: pd.DataFrame) -> pd.DataFrame:
    """Return rows whose columns about their series say what all slices together say.

    Args:
        rows: of the model, scored in parts, so that theirs speak of a part.
        series: of `series_rows`.
    """
    if series.empty:
        return rows
    answers = series.set_index(SERIES)
    known = rows[SERIES].isin(answers.index)
    for column, source in OF_SERIES.items():
        if column in rows.columns:
            told = answers[source].reindex(rows[SERIES])
            rows[column] = told.where(known.to_numpy(), None).to_numpy(object)
    if KEY_SLICE in rows.columns:
        keys = {int(place) for place in series[KEY_SLICE].dropna()}
        rows[KEY_SLICE] = [i in keys if of_series else None for i, of_series in enumerate(known)]
    return rows


def curve(rows: Sequence[Row], healthy: Sequence[str]) -> list[Row]:
    """Return the probability of disease along a series, from its lowest position up.

    Args:
        rows: of the series, each with `file` and `row`, its place in the answer.
        healthy: the classes that are no disease; without any, the curve is empty.
    """
    points = []
    for row in rows:
        cells: list[Any] = [row.get(f"p_{name}") for name in healthy]
        if row.get("label") is None or None in cells or not cells:
            continue
        p = 1.0 - math.fsum(cells)
        point = {POSITION: row.get(POSITION), "probability": min(1.0, max(0.0, p))}
        points.append(point | {"file": row["file"], "row": row["row"]})
    nowhere = float("inf")
    return sorted(points, key=lambda at: nowhere if at[POSITION] is None else at[POSITION])


def series_entries(series: pd.DataFrame, rows: Sequence[Row], healthy: Sequence[str]) -> list[Row]:
    """Return one entry per series: the model's answer, its key slice's file, and its curve.

    Args:
        series: of `series_rows`; `key_slice` is a place in `rows`.
        rows: of the slices, with `file`.
        healthy: the classes that are no disease.
    """
    members: dict[str, list[Row]] = defaultdict(list)
    for place, row in enumerate(rows):
        if row[SERIES] is not None:
            members[row[SERIES]].append({**row, "row": place})
    entries = []
    for entry in json_rows(series):
        key = entry[KEY_SLICE]
        entry |= {KEY_SLICE: None if key is None else rows[int(key)]["file"]}
        entry |= {"key_row": None if key is None else int(key)}
        entries.append(entry | {"curve": curve(members[entry[SERIES]], healthy)})
    count_series(entries)
    return entries
