"""Turn a picture upright as its EXIF orientation says."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ORIENTATION = 0x0112  # the tag, in EXIF and in TIFF


def upright(grey: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn a picture upright.

    Args:
        grey: (height, width) as stored.
        orientation: 1-8, Exif 2.32 table 6; other values change nothing.

    Returns:
        The same pixels; a view where that is possible.
    """
    if orientation in (5, 6, 7, 8):
        grey = grey.T
    if orientation in (2, 3, 6, 7):
        grey = grey[:, ::-1]
    if orientation in (3, 4, 7, 8):
        grey = grey[::-1]
    return np.ascontiguousarray(grey)
