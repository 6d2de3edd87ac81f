"""POST /series: answers for series from rows that /predict gave, without pixels."""

from __future__ import annotations

import json
import math
from typing import Any

import pandas as pd

from serve.http.errors import RefusalError
from serve.json_table import bad, parsed
from serve.scoring import SERIES, ServedModel, held_place, too_many_rows
from serve.series import POSITION, SKIPPED, Row
from serve.series_entries import series_entries

EXAMPLE = '{"rows": [<rows as /predict answered them>]}'
TEXTS = {"file", "label", "error", "error_code", SERIES}
TRUTHS = {"out_of_domain", "undecided", SKIPPED}
PROBABILITIES = "p_"
NUMBERS = {POSITION, "attention"}
FARTHEST = 1e6  # a position in mm, or a logit: beyond it is none


def series_answer(body: bytes, content_type: str, model: ServedModel) -> bytes:
    """Return the answer to a request. Runs in a worker thread.

    Args:
        body: JSON.
        content_type: the header of that name.
        model: what answers.

    Raises:
        RefusalError: whatever is wrong with the request, in one sentence.
    """
    if not content_type.lower().startswith("application/json"):
        message = f"Expected the content type application/json, and JSON such as {EXAMPLE}."
        raise RefusalError(415, "bad_request", message)
    if not model.answers_series:
        raise bad("Expected a model that answers series; this one does not.")
    with held_place():
        rows = rows_of(body, model.limits.max_series_rows)
        if not rows:
            return json.dumps({"series": []}).encode()
        check_columns(rows, [SERIES, *(f"{PROBABILITIES}{name}" for name in model.classes)])
        frame = pd.DataFrame(rows, dtype=object)
        series = model.series_rows(frame)
        named = [{"file": "", SERIES: None, **row} for row in rows]
        entries = series_entries(series, named, model.healthy)
    return json.dumps({"series": entries}, allow_nan=False).encode()


def rows_of(body: bytes, most: int) -> list[Row]:
    """Return the rows of a request, with the columns that series answers are made from.

    Raises:
        RefusalError: 400 if there are none, or one holds what no row does; 413 if there are too
            many.
    """
    request = parsed(body, most, EXAMPLE)
    rows = request.get("rows")
    if set(request) != {"rows"} or not isinstance(rows, list):
        raise bad(f"Expected JSON such as {EXAMPLE}.")
    if len(rows) > most:
        raise too_many_rows(most, f"received {len(rows)}")
    if not all(isinstance(row, dict) for row in rows):
        raise bad(f"Expected JSON such as {EXAMPLE}; received a row that is no object.")
    return [checked_row(row) for row in rows]


def check_columns(rows: list[Row], needed: list[str]) -> None:
    """Raise RefusalError if a row lacks what its series' answer is made from."""
    if any(name not in row for row in rows for name in needed):
        raise bad(
            "Expected rows as /predict gives them, each with series and the probability of each "
            "class, null where there is none; received one without."
        )


def checked_row(row: Row) -> Row:
    """Return the cells of a row that are used.

    Raises:
        RefusalError: 400 if a cell is of another type than in the model's rows.
    """
    kept = {}
    for name, cell in row.items():
        is_probability = name.startswith(PROBABILITIES) or name == "probability"
        if name in TEXTS:
            fits = isinstance(cell, str)
        elif name in TRUTHS:
            fits = isinstance(cell, bool)
        elif name in NUMBERS or is_probability:
            fits = is_number(cell) and (not is_probability or 0 <= cell <= 1)
        else:
            continue
        if not fits and (cell is not None or name == "file"):
            shown = name if len(name) < 40 and name.isprintable() else "a column"
            raise bad(f"Expected rows as /predict gives them; received another value in {shown}.")
        kept[name] = cell
    return kept


def is_number(cell: Any) -> bool:
    """Return whether a cell is a number of a sensible size."""
    if not isinstance(cell, int | float) or isinstance(cell, bool):
        return False
    return abs(cell) <= FARTHEST and math.isfinite(cell)
