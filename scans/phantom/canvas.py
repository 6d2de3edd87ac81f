"""A canvas in Hounsfield units (HU) that is drawn on in millimetres.

Positions are millimetres from the centre of the body: x towards the image's right, which is the
patient's left, and y towards the back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

AIR_HU, MARROW_HU, CORTEX_HU = -1000, 230, 750
SUPERSAMPLING = 2  # drawn at this many pixels per final pixel and averaged, for soft edges
MARGIN_PX = 24
OUTLINE = np.linspace(0, 2 * np.pi, 96, endpoint=False)

Point = tuple[float, float]


class Ellipse(NamedTuple):
    """An ellipse: centre, half axes and a turn, in mm and radians."""

    x: float
    y: float
    rx: float
    ry: float
    turn: float = 0.0

    def outline(self, power: float = 2.0) -> NDArray[np.float64]:
        """Return points of the outline, shape (96, 2); a power above 2 makes it boxier."""
        cos, sin = np.cos(OUTLINE), np.sin(OUTLINE)
        x = self.rx * np.sign(cos) * np.abs(cos) ** (2 / power)
        y = self.ry * np.sign(sin) * np.abs(sin) ** (2 / power)
        c, s = np.cos(self.turn), np.sin(self.turn)
        return np.stack([self.x + c * x - s * y, self.y + s * x + c * y], axis=1)

    def scaled(self, factor: float) -> Ellipse:
        """Return the same ellipse with both half axes multiplied."""
        return self._replace(rx=self.rx * factor, ry=self.ry * factor)


@dataclass
class Canvas:
    """An image in HU that is drawn on in millimetres.

    Attributes:
        width_px, height_px: of the final image.
        mm_per_px: of the final image.
        centre_px: where the body's centre lies in the final image, (x, y).
        hu: Pillow image of mode F at SUPERSAMPLING times the final size, with a margin of MARGIN_PX
            final pixels all around, from which bending may take what comes into view.
    """

    width_px: int
    height_px: int
    mm_per_px: float
    centre_px: Point
    hu: Image.Image = field(init=False)

    def __post_init__(self) -> None:
        """Start with air."""
        self.hu = Image.new("F", self.size, AIR_HU)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the drawing in pixels."""
        return (
            (self.width_px + 2 * MARGIN_PX) * SUPERSAMPLING,
            (self.height_px + 2 * MARGIN_PX) * SUPERSAMPLING,
        )

    @property
    def px_per_mm(self) -> float:
        """Scale of the drawing."""
        return SUPERSAMPLING / self.mm_per_px

    def to_px(self, points_mm: NDArray[np.float64] | Sequence[Point]) -> list[Point]:
        """Return drawing coordinates of points in mm."""
        x0, y0 = (SUPERSAMPLING * (c + MARGIN_PX) for c in self.centre_px)
        scale = self.px_per_mm
        points = points_mm.tolist() if isinstance(points_mm, np.ndarray) else points_mm
        return [(x * scale + x0, y * scale + y0) for x, y in points]

    def fill(self, outline_mm: NDArray[np.float64], hu: float) -> None:
        """Fill a polygon."""
        ImageDraw.Draw(self.hu).polygon(self.to_px(outline_mm), fill=hu)

    def bone(self, shape: Ellipse, power: float = 2.0) -> None:
        """Fill an ellipse with marrow inside a cortex of about 1.5 mm."""
        self.fill(shape.outline(power), CORTEX_HU)
        inner = shape._replace(rx=max(shape.rx - 1.6, 0.5), ry=max(shape.ry - 1.6, 0.5))
        self.fill(inner.outline(power), MARROW_HU)

    def stencil(self) -> Image.Image:
        """Return an empty mask of the drawing's size."""
        return Image.new("L", self.size, 0)
