"""Score the slices of series: thinned by position before the network, then answered per series."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .decoding.dicom import MAX_DEGREES_OFF_AXIAL
from .decoding.scan_file import ScanError, read_header, scan_bytes
from .series import SERIES, SeriesRows
from .series_thinning import UNKNOWN, lowest_usable, places

Row = dict[str, Any]
Score = Callable[[list[object]], list[Row]]  # images to rows
NO_SERIES = "None"  # what MLflow makes of a null in the forms `inputs` and `instances`
OWN_COLUMNS = (
    SERIES, "series_label", "series_probability", "series_undecided", "key_slice", "position_mm",
    "skipped",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a slice belongs; None where its file does not say."""

    series: str | None
    position_mm: float | None  # along the normal
    study: str | None = None


NOWHERE = Place(None, None)


def place_of(image: object) -> Place:
    """Read a slice's series and position from its header, without decoding its pixels.

    Args:
        image: the bytes of a file, or base64 text of them; the start up to the pixels is enough.

    Returns:
        NOWHERE for what is no readable DICOM. A slice that is not axial has no position, since
        its normal is not that of the others; decoding refuses it.
    """
    try:
        header = read_header(scan_bytes(image))
    except ScanError:
        return NOWHERE
    if header is None:
        return NOWHERE
    off = header.degrees_off_axial
    position = header.position_along_normal_mm
    if position is None or off is None or off > MAX_DEGREES_OFF_AXIAL:
        position = None
    return Place(
        header.series_uid or None,
        None if position is None else round(position, 3),
        header.study_uid or None,
    )


def series_name(value: object) -> str | None:
    """Return the name of a series from a cell of the column `series`; None for no series.

    Raises:
        ValueError: the cell is neither text nor null.
    """
    if value is None or value is pd.NA:
        return None
    if isinstance(value, str):
        return str(value) if value not in ("", NO_SERIES) else None
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, float | np.floating):  # how pandas keeps numbers beside nulls
        if math.isnan(value):
            return None
        return str(int(value)) if float(value).is_integer() else str(value)
    raise ValueError(
        f"Expected text or null in the column `series`; received {type(value).__name__}."
    )


def plan(names: Sequence[str | None], found: Sequence[Place], spacing_mm: float) -> pd.DataFrame:
    """Tell which slices are skipped, if all that are not skipped can be scored.

    Args:
        names: the series of each; None for a slice of no series.
        found: what their headers say.
        spacing_mm: nearer slices of a series are thinned.

    Returns:
        `series`, `position_mm`, `skipped` and `study` of each slice, in order, as objects.
    """
    numbers, place = _numbered(names, found)
    usable = np.ones(len(names), dtype=bool)
    skipped = place > lowest_usable(numbers, place, usable, spacing_mm)
    table = {
        SERIES: pd.Series(list(names), dtype=object),
        "position_mm": pd.Series([at.position_mm for at in found], dtype=object),
        "skipped": pd.Series(skipped.tolist(), dtype=object),
        "study": pd.Series([at.study for at in found], dtype=object),
    }
    return pd.DataFrame(table)


def _numbered(
    names: Sequence[str | None], found: Sequence[Place]
) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Return the number of each slice's series (n,), -1 without one, and its place (n,)."""
    numbers, _ = pd.factorize(np.array(names, dtype=object), use_na_sentinel=True)
    position_mm = [np.nan if at.position_mm is None else at.position_mm for at in found]
    place = places(np.array(position_mm, dtype=np.float64))
    place[numbers < 0] = UNKNOWN  # a slice of no series is never thinned
    return numbers, place


def scored_series(
    images: Sequence[object],
    names: Sequence[str | None],
    found: Sequence[Place],
    score: Score,
    answers: SeriesRows,
) -> list[Row]:
    """Score slices and answer their series.

    Args:
        images: the slices.
        names: the series of each; None for a slice of no series, which is scored as ever.
        found: what their headers say.
        score: scores slices, see `Scorer.rows`.
        answers: answers series from rows.

    Returns:
        One row per slice, in order, with the keys of OWN_COLUMNS besides those of `score`.
    """
    numbers, place = _numbered(names, found)
    rows = _thinned_rows(images, numbers, place, score, answers.spacing_mm)
    for row, name, at in zip(rows, names, found, strict=True):
        row |= {SERIES: name, "position_mm": at.position_mm, "skipped": row["skipped"]}
    _add_answers(rows, answers)
    return rows


def _thinned_rows(
    images: Sequence[object],
    series: NDArray[np.intp],
    place: NDArray[np.int64],
    score: Score,
    spacing_mm: float,
) -> list[Row]:
    """Score the slices that count; where one fails, the next in its cell takes its place."""
    usable = np.ones(len(images), dtype=bool)
    rows: dict[int, Row] = {}
    while True:
        counts = place <= lowest_usable(series, place, usable, spacing_mm)
        due = [int(i) for i in np.flatnonzero(counts) if int(i) not in rows]
        if not due:
            break
        for i, row in zip(due, score([images[i] for i in due]), strict=True):
            rows[i] = row | {"skipped": False}
            usable[i] = row["error"] is None
    left_out: Row = dict.fromkeys(next(iter(rows.values()), {})) | {"skipped": True}
    return [rows.get(i, left_out).copy() for i in range(len(images))]


def _add_answers(rows: list[Row], answers: SeriesRows) -> None:
    """Add the answer of its series to each row; rows of no series get nulls."""
    for row in rows:
        row |= dict.fromkeys(OWN_COLUMNS[1:5])
    if not rows:
        return
    table = answers.answers(pd.DataFrame(rows, dtype=object)).to_dict("records")
    by_name = {answer[SERIES]: answer for answer in table}
    for number, row in enumerate(rows):
        answer = by_name.get(row[SERIES])
        if answer is not None:
            row["series_label"] = answer["label"]
            row["series_probability"] = answer["probability"]
            row["series_undecided"] = answer["undecided"]
            row["key_slice"] = answer["key_slice"] == number
