"""Which slices of a series count: in each cell of a grid along the series, the lowest one.

A series of thin slices says little more than one of thick slices and would cost several times as
much, so slices are thinned by position. The grid is fixed in the patient's coordinates. So which
slices count depends neither on their order nor on how many calls scored them: of the slices that
one call knows, the lowest in a cell is scored, and so is the lowest of all, in whichever call it
comes (docs/adr/0071-thinning-by-position.md).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SPACING_MM = 2.5  # the default: a nodule that matters is seen in several slices this far apart
PLACES_PER_MM = 100  # scanners write positions with two to six decimals
TENTH = PLACES_PER_MM // 10  # cells begin at tenths of a mm, so that rounding moves few slices
UNKNOWN = np.iinfo(np.int64).min  # place of a slice without a position
FARTHEST_MM = 1e9  # beyond it a position is no position


def places(position_mm: NDArray[np.float64]) -> NDArray[np.int64]:
    """Round positions to places; slices of one place are duplicates.

    Args:
        position_mm: along the normal (n,), NaN where unknown.

    Returns:
        Hundredths of a mm (n,), UNKNOWN where unknown.
    """
    known = np.abs(position_mm) < FARTHEST_MM
    rounded = np.round(np.where(known, position_mm, 0.0) * PLACES_PER_MM).astype(np.int64)
    return np.where(known, rounded, UNKNOWN)


def lowest_usable(
    series: NDArray[np.intp], place: NDArray[np.int64], usable: NDArray[np.bool_], spacing_mm: float
) -> NDArray[np.int64]:
    """Return the lowest usable place in the cell of each slice.

    Args:
        series: number of each slice's series (n,).
        place: see `places` (n,).
        usable: whether a slice may be scored (n,); one that failed may not.
        spacing_mm: length of a cell; 0 makes each place a cell of its own.

    Returns:
        (n,). A slice above it is thinned, and one at it counts. A slice without a position is
        always at it; in a cell without a usable slice nothing is above it.
    """
    known = place != UNKNOWN
    at = np.where(known, place, 0)
    # In tenths of a mm; the smallest amount keeps a quotient such as 30 / 2.5 from ending below 12.
    cell = at if spacing_mm <= 0 else _floor(((at + TENTH // 2) // TENTH) / (10 * spacing_mm))
    _, group = np.unique(np.stack([series, cell]), axis=1, return_inverse=True)
    group = group.reshape(-1)
    lowest = np.full(len(place), np.iinfo(np.int64).max)
    counted = known & usable
    np.minimum.at(lowest, group[counted], place[counted])
    result: NDArray[np.int64] = np.where(known, lowest[group], UNKNOWN)
    return result


def _floor(quotient: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.floor(quotient + 1e-9).astype(np.int64)
