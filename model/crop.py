"""Cut what the network sees out of a picture, and bring it to the square that it takes.

docs/adr/0057-what-else-was-tried.md compares both ways.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .body import Box

CropAspect = Literal["stretched", "kept"]

MAX_SQUARE_PX = 4096  # a square round a long picture is no larger than 17 MB; CT matrices are 512


class Cut(NamedTuple):
    """A part of a picture as the network takes it."""

    grey: NDArray[np.uint8]  # (side_px, side_px), 0-255
    box: Box  # where in the picture it is; beyond 0-1 where it is larger than the picture


def cut_out(grey: NDArray[np.uint8], box: Box, side_px: int, aspect: CropAspect) -> Cut:
    """Cut a box out of a picture and resize it.

    Args:
        grey: (height, width), 0-255, the whole picture.
        box: of the picture.
        side_px: of the square that the network takes.
        aspect: `stretched`, the box fills the square; `kept`, a square of the box's longer side
            round the box's middle does. It has the picture where that goes on beyond the box, and
            black where it does not.
    """
    height, width = grey.shape
    left, top, right, bottom = (
        edge * size for edge, size in zip(box, (width, height) * 2, strict=True)
    )
    picture = Image.fromarray(grey)
    edges = left, top, right, bottom
    if aspect == "kept":
        long = max(right - left, bottom - top)
        x, y = (left + right - long) / 2, (top + bottom - long) / 2
        box = x / width, y / height, (x + long) / width, (y + long) / height
        square_px = min(max(1, round(long)), MAX_SQUARE_PX)
        size = (square_px, square_px)
        picture = picture.transform(size, Image.Transform.EXTENT, (x, y, x + long, y + long))
        edges = 0, 0, square_px, square_px
    square = picture.resize((side_px, side_px), Image.Resampling.BILINEAR, box=edges)
    return Cut(np.asarray(square), box)
