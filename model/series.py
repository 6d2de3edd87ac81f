"""Rows in, one answer per series out: no pixels are needed again.

A row counts unless its slice failed or is thinned (series_thinning.py). Slices at one position are
one place of the series, which counts once, with the most suspicious of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .decision import disease_probability, labels
from .series_answer import SeriesAnswer, class_probabilities
from .series_thinning import PLACES_PER_MM, UNKNOWN, lowest_usable, places

SERIES = "series"
GAP = 1.5  # times the usual distance of neighbours: a slice or more is missing between them
UNTRAINED = (
    "This model was trained without series, so it has no answer for one; look at its slices, or "
    "train it on scans whose series are known."
)

Row = dict[str, Any]


def series_columns(classes: Sequence[str]) -> list[str]:
    """Return the columns of `SeriesRows.answers`, in order. New ones go to the end."""
    return [
        SERIES, "label", "probability", *(f"p_{name}" for name in classes), "undecided", "error",
        "slices", "scored", "skipped", "failed", "out_of_domain_share", "key_slice",
        "key_position_mm", "first_mm", "last_mm", "gaps", "duplicate_positions", "note",
    ]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Slices:
    """Columns of rows, as arrays with one element per row that is of a series."""

    row: NDArray[np.intp]  # place in the rows
    series: NDArray[np.intp]  # number of the series, in order of first appearance
    p: NDArray[np.float64]  # (n, classes), NaN where there is no answer
    position_mm: NDArray[np.float64]  # NaN where unknown
    place: NDArray[np.int64]  # see series_thinning.places
    skipped: NDArray[np.bool_]  # before the network
    out_of_domain: NDArray[np.float64]  # 1, 0, or NaN where it is not known
    attention: NDArray[np.float64]  # NaN where there is none

    def of(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> Slices:
        """Return some of the slices."""
        return Slices(**{f.name: getattr(self, f.name)[chosen] for f in dataclasses.fields(self)})


@dataclasses.dataclass(frozen=True)
class SeriesRows:
    """Turns rows of a model into answers per series.

    Attributes:
        classes: names, in the order of the columns.
        healthy: names of the healthy ones, see decision.py.
        answer: what training fitted; None in a model that was trained without series.
        spacing_mm: slices nearer to each other than this are thinned.
    """

    classes: tuple[str, ...]
    healthy: tuple[str, ...]
    answer: SeriesAnswer | None
    spacing_mm: float

    def answers(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Answer each series.

        Args:
            rows: the model's rows, in any order, of one or many series; further columns do not
                matter.

        Returns:
            One row per series, in order of first appearance. The columns are objects, so that
            what is missing is None.

        Raises:
            ValueError: a column is missing.
        """
        names, slices = self._slices(rows)
        answered = [self._row(name, of) for name, of in zip(names, _each(slices), strict=True)]
        return pd.DataFrame(answered, columns=series_columns(self.classes), dtype=object)

    def _slices(self, rows: pd.DataFrame) -> tuple[list[str], Slices]:
        """Return the names of the series and the columns of the rows that belong to one."""
        needed = [SERIES, *(f"p_{name}" for name in self.classes)]
        if missing := [name for name in needed if name not in rows.columns]:
            raise ValueError(
                f"Expected rows of this model with the column {SERIES!r}; {', '.join(missing)} "
                "missing. Score with the column `series`, or with the parameter `series`."
            )
        of_series = rows[SERIES].notna().to_numpy(dtype=bool)
        at = np.flatnonzero(of_series)
        numbers, names = pd.factorize(rows[SERIES].to_numpy(dtype=object)[at])
        position_mm = _numbers(rows, "position_mm")[at]
        p = np.stack([_numbers(rows, name)[at] for name in needed[1:]], axis=1)
        if "error" in rows.columns:
            p[rows["error"].notna().to_numpy(dtype=bool)[at]] = np.nan
        return [str(name) for name in names], Slices(
            row=at,
            series=numbers,
            p=p,
            position_mm=position_mm,
            place=places(position_mm),
            skipped=_numbers(rows, "skipped")[at] == 1,
            out_of_domain=_numbers(rows, "out_of_domain")[at],
            attention=_numbers(rows, "attention")[at],
        )

    def _row(self, name: str, slices: Slices) -> Row:
        """Answer one series."""
        usable = np.isfinite(slices.p).all(axis=1) & ~slices.skipped
        lowest = lowest_usable(np.zeros_like(slices.series), slices.place, usable, self.spacing_mm)
        thinned = slices.skipped | (slices.place > lowest)
        counted = slices.of(usable & ~thinned)
        row: Row = dict.fromkeys(series_columns(self.classes))
        row |= {
            SERIES: name,
            "slices": len(thinned),
            "scored": len(counted.row),
            "skipped": int(thinned.sum()),
            "failed": int((~usable & ~thinned).sum()),
        }
        row |= _stack(slices)
        if not len(counted.row):
            row["error"] = _nothing_scored(row)
        else:
            odd = counted.out_of_domain[np.isfinite(counted.out_of_domain)]
            row["out_of_domain_share"] = float(odd.mean()) if len(odd) else None
            row |= self._answer(counted)
        row["note"] = _note(row)
        return row

    def _answer(self, counted: Slices) -> Row:
        """Return label, probabilities and key slice from the slices that count."""
        disease = disease_probability(counted.p, self.classes, self.healthy)
        answer = self.answer or SeriesAnswer("maximum")
        # Of equal slices the one that comes first along the series, then in the rows.
        rank = answer.speaks_most(disease, counted.attention)
        key = np.lexsort((counted.row, counted.place, -rank))[0]
        place = counted.position_mm[key]
        row: Row = {
            "key_slice": int(counted.row[key]),
            "key_position_mm": float(place) if np.isfinite(place) else None,
        }
        if self.answer is None:
            return row | {"error": UNTRAINED}
        most = _one_of_each_place(counted.place, disease, counted.attention)
        p_disease = answer.probability(disease[most], counted.attention[most])
        p = class_probabilities(p_disease, counted.p[most], self.classes, self.healthy)[np.newaxis]
        chosen = labels(p, self.classes, answer.threshold, self.healthy, stored=True)[0]
        row |= {"label": self.classes[chosen], "probability": p_disease}
        row |= {f"p_{name}": float(value) for name, value in zip(self.classes, p[0], strict=True)}
        if answer.conformal is not None:
            row["undecided"] = bool(answer.conformal.undecided(p)[0])
        return row


def _numbers(rows: pd.DataFrame, column: str) -> NDArray[np.float64]:
    """Return a column as numbers, NaN where it has none; true is 1."""
    if column not in rows.columns:
        return np.full(len(rows), np.nan)
    values = rows[column]
    if values.dtype != object:
        result: NDArray[np.float64] = values.to_numpy(dtype=np.float64, na_value=np.nan)
        return result
    return np.array([np.nan if pd.isna(value) else float(value) for value in values])


def _each(slices: Slices) -> Iterator[Slices]:
    """Yield the slices of each series in turn, in the order of the rows."""
    order = np.argsort(slices.series, kind="stable")
    ends = np.flatnonzero(np.diff(slices.series[order])) + 1
    for part in np.split(order, ends):
        if len(part):
            yield slices.of(part)


def _one_of_each_place(
    place: NDArray[np.int64], disease: NDArray[np.float64], attention: NDArray[np.float64]
) -> NDArray[np.intp]:
    """Choose of the slices at one place the most suspicious one; without a place, each is one."""
    order = np.lexsort((attention, disease, place))
    last = np.append(np.diff(place[order]) != 0, True) | (place[order] == UNKNOWN)
    chosen: NDArray[np.intp] = order[last]
    return chosen


def _stack(slices: Slices) -> Row:
    """Describe where the slices of a series lie."""
    known, counts = np.unique(slices.place[slices.place != UNKNOWN], return_counts=True)
    steps = np.diff(known)
    return {
        "first_mm": float(known[0]) / PLACES_PER_MM if len(known) else None,
        "last_mm": float(known[-1]) / PLACES_PER_MM if len(known) else None,
        "gaps": int((steps > GAP * np.median(steps)).sum()) if len(steps) else 0,
        "duplicate_positions": int((counts > 1).sum()),
    }


def _nothing_scored(row: Row) -> str:
    return (
        f"None of the {row['slices']} slices of this series could be scored "
        f"({row['failed']} failed, {row['skipped']} skipped); see the errors of its rows."
    )


def _note(row: Row) -> str | None:
    """Say in one sentence what is odd about a series that its answer was made from."""
    found = []
    if row["failed"] and row["scored"]:
        found.append(f"{row['failed']} of {row['slices']} slices failed and are left out")
    if row["gaps"]:
        found.append(f"slices are missing at {row['gaps']} place{'s' * (row['gaps'] > 1)}")
    if row["duplicate_positions"]:
        one = row["duplicate_positions"] == 1
        found.append(
            f"{row['duplicate_positions']} position{'' if one else 's'} occur{'s' * one} more than "
            "once, as where two series have one name"
        )
    if row["slices"] == 1:
        found.append("it has one slice only")
    if not found:
        return None
    text = "; ".join(found)
    return f"{text[0].upper()}{text[1:]}."
