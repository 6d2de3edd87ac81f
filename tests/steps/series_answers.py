"""Six series of four slices with answers that can be checked by hand."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from steps.evaluation.series_scores import KnownSlices


class Series(NamedTuple):
    """A series, its truth and its answer."""

    name: str
    patient: str | None
    lesions: tuple[int, ...]  # places of the slices that show one, among its four
    p: float  # of disease
    key: int  # place of the key slice, among its four
    undecided: bool = False
    outside: float = 0.0  # share out of domain

    @property
    def diseased(self) -> bool:
        return bool(self.lesions)


SERIES = (
    Series("a", "p1", (1, 2), 0.6, 1, undecided=True),
    Series("b", "p1", (2,), 0.9, 2),
    Series("c", "p2", (), 0.45, 0),
    Series("d", "p3", (0, 1), 0.35, 3),
    Series("e", "p4", (), 0.1, 0),
    Series("f", None, (), 0.2, 0, outside=0.75),
)
SLICES = 4
POSITIONS_MM = (3.0, 0.0, 6.0, 9.0)  # of a series' slices: not in order of their places


def answers() -> pd.DataFrame:
    """What a model's `series_rows` would give for SERIES, at a threshold of 0.4."""
    rows: list[dict[str, Any]] = [
        {
            "series": series.name,
            "label": "cancer" if series.p >= 0.4 else "normal",
            "probability": series.p,
            "p_cancer": series.p,
            "p_normal": 1 - series.p,
            "undecided": series.undecided,
            "error": None,
            "slices": SLICES,
            "scored": 3,
            "skipped": 1 if number < 4 else 0,
            "failed": 0 if number < 4 else 1,
            "out_of_domain_share": series.outside,
            "key_slice": SLICES * number + series.key,
        }
        for number, series in enumerate(SERIES)
    ]
    return pd.DataFrame(rows, dtype=object)


def known(**changes: Any) -> KnownSlices:
    """What is known of the slices of SERIES."""
    lesion = np.array([place in series.lesions for series in SERIES for place in range(SLICES)])
    of = np.repeat(np.arange(len(SERIES)), SLICES)
    facts: dict[str, Any] = {
        "series": [SERIES[i].name for i in of],
        "patients": [SERIES[i].patient for i in of],
        "groups": np.array([f"g{SERIES[i].patient}" for i in of]),
        "diseased": lesion,
        "lesion": lesion,
        "position_mm": np.tile(POSITIONS_MM, len(SERIES)),
    }
    return KnownSlices(**facts | changes)
