"""The series of a data set: their order, and positions that are missing, doubled or uneven."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from scans.manifest import ManifestRow

SERIES = "series.csv"
SAME_POSITION_MM = 0.01  # scanners write positions with two to six decimals
SAME_DIRECTION_DEG = 1.0  # between normals of one series; scanners write six decimals
UNEVEN_SHARE = 0.1  # of the usual spacing; rounding in headers stays well below


@dataclass(frozen=True)
class SeriesFacts:
    """What is known of one series.

    Attributes:
        series: as in the manifest.
        patient, source: as in the manifest, None where unknown.
        labels: the classes of its slices, joined by a bar.
        slices: distinct images.
        with_position: slices whose position is known.
        first_mm, last_mm: positions along the normal, the lowest and the highest.
        spacing_mm: the median distance of neighbouring positions.
        missing: slices that gaps of whole multiples of the spacing leave room for.
        duplicates: slices at a position that another slice of the series has.
        uneven: whether neighbours lie apart by other than whole multiples of the spacing.
        thickness_mm, kernel, manufacturer: of the header; several are joined by a bar.
    """

    series: str
    patient: str | None
    source: str | None
    labels: str
    slices: int
    with_position: int
    first_mm: float | None
    last_mm: float | None
    spacing_mm: float | None
    missing: int
    duplicates: int
    uneven: bool
    thickness_mm: str = ""
    kernel: str = ""
    manufacturer: str = ""


def series_facts(
    rows: Sequence[ManifestRow], acquisition: dict[str, tuple[str, str, str]] | None = None
) -> list[SeriesFacts]:
    """Describe each series of a manifest, in the order of their names.

    Args:
        rows: the manifest.
        acquisition: thickness, kernel and manufacturer of each row, by its path.
    """
    members: dict[tuple[str | None, str], list[ManifestRow]] = defaultdict(list)
    for row in rows:
        if row.series is not None:
            members[row.source, row.series].append(row)
    known = acquisition or {}
    return [
        _facts(members[key], known) for key in sorted(members, key=lambda k: (k[0] or "", k[1]))
    ]


def several_directions(normals: Sequence[tuple[float, float, float]]) -> bool:
    """Return whether slices are not parallel.

    Args:
        normals: unit vector across each slice.
    """
    found = np.asarray(normals)
    return bool((found @ found[0] < np.cos(np.radians(SAME_DIRECTION_DEG))).any())


def _facts(rows: list[ManifestRow], acquisition: dict[str, tuple[str, str, str]]) -> SeriesFacts:
    positions = sorted(row.position_mm for row in rows if row.position_mm is not None)
    apart = np.diff(positions)
    steps = apart[apart > SAME_POSITION_MM]
    spacing = float(np.median(steps)) if len(steps) else None
    multiples = steps / spacing if spacing else steps
    off = np.abs(multiples - np.round(multiples))
    said = [acquisition.get(row.path, ("", "", "")) for row in rows]
    thickness, kernel, manufacturer = (_joined(values) for values in zip(*said, strict=True))
    return SeriesFacts(
        series=str(rows[0].series),
        patient=next((row.patient for row in rows if row.patient), None),
        source=rows[0].source,
        labels=_joined([row.label for row in rows]),
        slices=len(rows),
        with_position=len(positions),
        first_mm=positions[0] if positions else None,
        last_mm=positions[-1] if positions else None,
        spacing_mm=round(spacing, 3) if spacing else None,
        missing=int((np.round(multiples) - 1)[off <= UNEVEN_SHARE].clip(0).sum()),
        duplicates=len(apart) - len(steps),
        uneven=bool((off > UNEVEN_SHARE).any()),
        thickness_mm=thickness,
        kernel=kernel,
        manufacturer=manufacturer,
    )


def _joined(values: Sequence[str]) -> str:
    return "|".join(sorted({value for value in values if value}))


def write_series(series: Sequence[SeriesFacts], folder: Path) -> None:
    """Write `series.csv`, one row per series, into a folder."""
    with (folder / SERIES).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        names = [field.name for field in fields(SeriesFacts)]
        writer.writerow(names)
        for facts in series:
            values = [getattr(facts, name) for name in names]
            writer.writerow(["" if value is None else value for value in values])
