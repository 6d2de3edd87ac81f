"""Draw what lies in the lungs: branching vessels, and a spiculated nodule."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops, ImageDraw
from scipy import ndimage

from scans.phantom.anatomy import Body
from scans.phantom.canvas import MARGIN_PX, SUPERSAMPLING, Canvas, Point

VESSEL_HU = 20
NODULE_RADIUS_MM = (17.0, 27.0)  # T2 to T3 by the 8th TNM edition: 3 to 5 cm across
SATELLITES = (2, 4)  # further, smaller nodules
SATELLITE_SIZE = (0.5, 0.8)  # of the largest nodule's radius
NODULE_HU = (20.0, 70.0)  # solid soft tissue


@dataclass(frozen=True)
class Nodule:
    """A drawn nodule.

    Attributes:
        centre_px: x and y in the final image.
        radius_mm: mean radius of its body, without the spicules.
        hu: of its tissue.
        spicules: how many.
    """

    centre_px: Point
    radius_mm: float
    hu: float
    spicules: int


def draw_vessels(canvas: Canvas, lungs: Image.Image, body: Body, rng: np.random.Generator) -> None:
    """Draw branching vessels from both hila, and vessels that cross the slice as dots."""
    stencil = canvas.stencil()
    draw = ImageDraw.Draw(stencil)
    for side in (-1, 1):
        hilum = (side * rng.uniform(34, 44), body.chest.y + rng.uniform(2, 16))
        for angle in np.linspace(-1.2, 1.2, 5) + rng.uniform(-0.25, 0.25, 5):
            direction = angle if side > 0 else np.pi - angle
            _branch(draw, canvas, hilum, direction, rng.uniform(2.0, 4.2), rng)
    for _ in range(rng.integers(110, 190)):
        x, y = rng.uniform(-1, 1, 2) * (body.chest.rx, body.chest.ry)
        nearness = 1 - min(1.0, float(np.hypot(x / body.chest.rx, y / body.chest.ry)))
        radius = (0.5 + 2.4 * nearness * rng.random()) * canvas.px_per_mm
        cx, cy = canvas.to_px([(x, body.chest.y + y)])[0]
        draw.ellipse((cx - radius, cy - radius, cx + radius, cy + radius), fill=255)
    canvas.hu.paste(VESSEL_HU, mask=ImageChops.multiply(stencil, lungs))


def _branch(
    draw: ImageDraw.ImageDraw,
    canvas: Canvas,
    start: Point,
    direction: float,
    radius_mm: float,
    rng: np.random.Generator,
) -> None:
    """Draw a vessel that winds, thins and forks until it is too thin to see."""
    point = start
    while radius_mm > 0.55:
        length = rng.uniform(5, 10)
        direction += rng.normal(0, 0.18)
        end = (point[0] + length * np.cos(direction), point[1] + length * np.sin(direction))
        width = max(1, round(2 * radius_mm * canvas.px_per_mm))
        draw.line(canvas.to_px([point, end]), fill=255, width=width)
        if rng.random() < 0.25 and radius_mm > 0.7:
            fork = direction + rng.choice([-1, 1]) * rng.uniform(0.4, 0.9)
            _branch(draw, canvas, end, fork, radius_mm * 0.65, rng)
        radius_mm *= rng.uniform(0.78, 0.9)
        point = end


def draw_nodules(
    canvas: Canvas, lungs: Image.Image, rng: np.random.Generator
) -> tuple[list[Nodule], Image.Image]:
    """Draw a spiculated nodule and smaller satellites inside the lungs.

    Returns:
        The nodules, the largest first, and their mask of the drawing's size (mode L).
    """
    mask = canvas.stencil()
    radius_mm = float(rng.uniform(*NODULE_RADIUS_MM))
    hu = float(rng.uniform(*NODULE_HU))
    nodules = []
    for number in range(1 + rng.integers(*SATELLITES, endpoint=True)):
        size_mm = radius_mm if number == 0 else radius_mm * float(rng.uniform(*SATELLITE_SIZE))
        centre = place_nodule(canvas, lungs, size_mm, rng)
        spicules = draw_spiculated(ImageDraw.Draw(mask), centre, size_mm * canvas.px_per_mm, rng)
        centre_px = (centre[0] / SUPERSAMPLING - MARGIN_PX, centre[1] / SUPERSAMPLING - MARGIN_PX)
        nodules.append(Nodule(centre_px, size_mm, hu, spicules))
    canvas.hu.paste(hu, mask=mask)
    return sorted(nodules, key=lambda nodule: -nodule.radius_mm), mask


def draw_spiculated(
    draw: ImageDraw.ImageDraw, centre: Point, radius: float, rng: np.random.Generator
) -> int:
    """Draw a lobed disc with spicules, sizes in drawing pixels; return how many spicules."""
    angles = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    lobes = sum(
        rng.uniform(0, 0.12) * np.cos(k * angles + rng.uniform(0, 2 * np.pi)) for k in (2, 3, 5)
    )
    radii = radius * (1 + lobes)
    outline = np.stack([centre[0] + radii * np.cos(angles), centre[1] + radii * np.sin(angles)], 1)
    draw.polygon([(float(x), float(y)) for x, y in outline], fill=255)
    spicules = int(rng.integers(14, 23))
    for angle in np.linspace(0, 2 * np.pi, spicules, endpoint=False) + rng.normal(0, 0.1, spicules):
        tip = radius * rng.uniform(1.4, 2.0)
        side = rng.uniform(0.07, 0.13)
        corners = [(0.8 * radius, angle - side), (tip, angle), (0.8 * radius, angle + side)]
        draw.polygon(
            [(centre[0] + r * np.cos(a), centre[1] + r * np.sin(a)) for r, a in corners], fill=255
        )
    return spicules


def place_nodule(
    canvas: Canvas, lungs: Image.Image, radius_mm: float, rng: np.random.Generator
) -> Point:
    """Return a centre, in drawing pixels, whose nodule lies in a lung but may touch its edge."""
    coarse = 4  # a coarse map is enough to choose a place, and sixteen times faster
    depth = coarse * ndimage.distance_transform_edt(np.asarray(lungs)[::coarse, ::coarse] > 0)
    wanted = min(0.8 * radius_mm * canvas.px_per_mm, 0.9 * float(depth.max()))
    candidates = np.argwhere(depth >= wanted)
    y, x = coarse * candidates[rng.integers(len(candidates))]
    return float(x), float(y)
