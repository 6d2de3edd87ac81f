"""The series of a data set as bags of slices, and what their labels speak of."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from model.decision import healthy_indices
from model.series_thinning import lowest_usable, places
from scans.manifest import ManifestRow
from steps.parameters import LabelLevel


@dataclasses.dataclass(frozen=True)
class Bags:
    """Series, each as the places of its slices among the scans; without those that are thinned."""

    members: list[NDArray[np.intp]]
    label: NDArray[np.int64]  # class index (series,)
    sick: NDArray[np.bool_]  # (series,)
    group: NDArray[np.str_]  # patient, with near-duplicates (series,)

    def of(self, chosen: NDArray[np.intp]) -> Bags:
        """Return some of the series."""
        members = [self.members[i] for i in chosen]
        return Bags(members, self.label[chosen], self.sick[chosen], self.group[chosen])


def bags_of(
    rows: Sequence[ManifestRow],
    classes: Sequence[str],
    healthy: Sequence[str],
    spacing_mm: float,
) -> Bags:
    """Gather the slices of each series that count.

    A series has the disease that most of its diseased slices have. It is healthy only if all its
    slices are.

    Args:
        rows: the scans; one without a series is left out.
        classes: names in the order of the head's outputs.
        healthy: names of the classes that are no disease.
        spacing_mm: nearer slices of a series are thinned; 0 keeps all.
    """
    numbers = series_numbers(rows)
    position_mm = np.array(
        [np.nan if row.position_mm is None else row.position_mm for row in rows], dtype=np.float64
    )
    place = places(position_mm)
    usable = numbers >= 0
    counts = usable & (place <= lowest_usable(numbers, place, usable, spacing_mm))
    label = np.array([classes.index(row.label) for row in rows], dtype=np.int64)
    is_sick = sick_classes(classes, healthy)
    members, labels = [], []
    for number in range(numbers.max(initial=-1) + 1):
        own = label[numbers == number]
        worst = own[is_sick[own]] if is_sick[own].any() else own
        labels.append(int(np.bincount(worst).argmax()))
        members.append(np.flatnonzero(counts & (numbers == number)))
    groups = np.array([rows[own[0]].group for own in members], dtype=np.str_)
    found = np.array(labels, dtype=np.int64)
    return Bags(members, found, is_sick[found], groups)


def series_numbers(rows: Sequence[ManifestRow]) -> NDArray[np.intp]:
    """Number the series of scans (n,) in order of appearance; -1 for a scan without one."""
    known: dict[tuple[str | None, str], int] = {}
    return np.array(
        [
            -1 if row.series is None else known.setdefault((row.source, row.series), len(known))
            for row in rows
        ],
        dtype=np.intp,
    )


def sick_classes(classes: Sequence[str], healthy: Sequence[str]) -> NDArray[np.bool_]:
    """Tell which classes (classes,) are a disease; of two unhealthy ones the second is."""
    sound = healthy_indices(classes, healthy) or list(range(len(classes) - 1))
    return ~np.isin(np.arange(len(classes)), sound)


def labels_are_of_series(
    rows: Sequence[ManifestRow], classes: Sequence[str], healthy: Sequence[str], level: LabelLevel
) -> bool:
    """Tell whether a slice's label is that of its series or patient.

    Disease is hardly ever seen in every slice of a series. So where it is in the labels, in all
    slices of every diseased series, they are the series' labels, unless `level` says otherwise.

    Args:
        rows: the scans.
        classes: names in the order of the head's outputs.
        healthy: names of the classes that are no disease.
        level: `slice` and `series` say it; `auto` looks at the labels.
    """
    numbers = series_numbers(rows)
    if level != "auto" or not healthy_indices(classes, healthy):
        return level == "series" and bool((numbers >= 0).any())
    sick = sick_classes(classes, healthy)[[classes.index(row.label) for row in rows]]
    shares = [sick[numbers == n].mean() for n in range(numbers.max(initial=-1) + 1)]
    several = [(numbers == n).sum() > 1 for n in range(len(shares))]
    diseased = [share for share, more in zip(shares, several, strict=True) if share and more]
    return bool(diseased) and min(diseased) == 1
