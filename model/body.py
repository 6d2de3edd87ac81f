"""Where the body is in a chest CT slice: the frame that scans of all sources share.

Sources differ in the field of view, in borders, in the table and in marks, and a network learns
such framing instead of the disease. The box around the body takes those differences out:
docs/adr/0055-recipe-across-sources.md has the numbers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Box = tuple[float, float, float, float]  # left, top, right, bottom, as fractions of the picture
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)

SIDE = 128  # the picture is averaged to SIDE x SIDE cells; a CT table is one to three cells thick
LARGE = 0.2  # components of at least this share of the largest one belong to the body
INSIDE = 0.03  # of the box's size, off each side: skin, clothes and the rounding of cells
MIN_SHARE = 0.06  # of the picture that a box covers, at least; an infant's is small
MIN_SIDE = 0.2  # of the picture's width and height, at least
MIN_ASPECT, MAX_ASPECT = 0.75, 3.0  # width to height in pixels; heart and spine alone are 0.5
MIN_FILLED = 0.2  # of the box that is brighter than the threshold; lungs leave 0.4 and more


def body_box(grey: NDArray[np.uint8]) -> Box:
    """Find the box around the body.

    Otsu's threshold on a coarse average tells body from air; opening takes away what is thin, and
    what is small beside the largest piece does not count. A box that cannot be right gives way
    to the whole picture.

    Args:
        grey: (height, width), 0-255, air dark and tissue bright.

    Returns:
        Fractions of the width and height, already INSIDE of the body's outline; WHOLE where no
        body is found.
    """
    coarse = Image.fromarray(grey).resize((SIDE, SIDE), Image.Resampling.BOX)
    histogram = np.asarray(coarse.histogram())
    threshold = otsu_threshold(histogram)
    aspect = grey.shape[1] / grey.shape[0]
    box = _box_above(np.asarray(coarse), threshold, aspect)
    if box is None:  # a narrow window: fat is dark, and only the organs were bright
        histogram[threshold + 1 :] = 0
        box = _box_above(np.asarray(coarse), otsu_threshold(histogram), aspect)
    return box or WHOLE


def _box_above(coarse: NDArray[np.uint8], threshold: int, aspect: float) -> Box | None:
    """Return the box around what is brighter than a threshold; None where it is no chest."""
    runs, component = connected_runs(opened(coarse > threshold))
    if not len(runs):
        return None
    sizes = np.bincount(component, weights=runs[:, 2] - runs[:, 1])
    body = runs[(sizes >= LARGE * sizes.max())[component]]
    top, bottom = int(body[:, 0].min()), int(body[:, 0].max()) + 1
    left, right = int(body[:, 1].min()), int(body[:, 2].max())
    width, height = (right - left) / SIDE, (bottom - top) / SIDE
    filled = float((body[:, 2] - body[:, 1]).sum()) / ((right - left) * (bottom - top))
    if min(width, height) < MIN_SIDE or width * height < MIN_SHARE or filled < MIN_FILLED:
        return None
    if not MIN_ASPECT <= width * aspect / height <= MAX_ASPECT:
        return None
    return (
        left / SIDE + INSIDE * width,
        top / SIDE + INSIDE * height,
        right / SIDE - INSIDE * width,
        bottom / SIDE - INSIDE * height,
    )


def opened(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Take away what is thinner than 3 cells: table, cables, letters, frames.

    Args:
        mask: (height, width).

    Returns:
        Its morphological opening with a square of 3 x 3 cells; beyond the edge the mask goes on.
    """
    eroded = np.pad(mask, 1, mode="edge")
    eroded = eroded[:-2] & eroded[1:-1] & eroded[2:]
    eroded = eroded[:, :-2] & eroded[:, 1:-1] & eroded[:, 2:]
    dilated = np.pad(eroded, 1)
    dilated = dilated[:-2] | dilated[1:-1] | dilated[2:]
    return dilated[:, :-2] | dilated[:, 1:-1] | dilated[:, 2:]


def otsu_threshold(histogram: NDArray[np.int_]) -> int:
    """Return the grey level that divides a histogram best (Otsu 1979).

    Args:
        histogram: pixels at each level, (256,).

    Returns:
        The level with the greatest variance between what is at most as bright and what is
        brighter; the lowest of several.
    """
    counts = histogram.astype(np.float64)
    below = counts.cumsum()
    sums = (counts * np.arange(256)).cumsum()
    above = below[-1] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = sums / below - (sums[-1] - sums) / above
        between = below * above * gap**2
    return int(np.nan_to_num(between).argmax())


def connected_runs(mask: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Label connected pieces of a mask by its horizontal runs (4-neighbours).

    Args:
        mask: (height, width).

    Returns:
        Runs (n, 3) of row, first column and the column after the last; and the number of the
        component of each, (n,), counted from 0.
    """
    padded = np.zeros((mask.shape[0], mask.shape[1] + 2), np.int8)
    padded[:, 1:-1] = mask
    edges = np.diff(padded, axis=1)
    rows, first = np.nonzero(edges == 1)
    last = np.nonzero(edges == -1)[1]
    parent = list(range(len(rows)))

    def root(run: int) -> int:
        while parent[run] != run:
            parent[run] = parent[parent[run]]
            run = parent[run]
        return run

    starts = np.searchsorted(rows, np.arange(mask.shape[0] + 1)).tolist()
    begins, ends = first.tolist(), last.tolist()
    for row in range(1, mask.shape[0]):
        above, here = starts[row - 1], starts[row]
        while above < starts[row] and here < starts[row + 1]:
            if begins[above] < ends[here] and begins[here] < ends[above]:
                parent[root(here)] = root(above)
            if ends[above] < ends[here]:
                above += 1
            else:
                here += 1
    roots = np.array([root(run) for run in range(len(parent))], dtype=np.intp)
    component = np.unique(roots, return_inverse=True)[1].astype(np.intp)
    return np.stack([rows, first, last], axis=1), component
