"""Synthetic patients: volumes of axial slices through one drawn person, with series and positions.

As with the single slices, these are drawings. Both classes come from one distribution of people,
scanners, framing, kernels and noise; patients are drawn in pairs, one with nodules and one without,
that share scanner, frame and number of series.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw
from scipy import ndimage

from scans.phantom.anatomy import Body, draw_body, random_body
from scans.phantom.canvas import Canvas, Point
from scans.phantom.drawing import bend_of, bent, noise_hu
from scans.phantom.lungs import (
    NODULE_HU,
    NODULE_RADIUS_MM,
    draw_spiculated,
    draw_vessels,
    place_nodule,
)

SIDE_PX = 256
SLICES = 4  # of a series
SPACING_MM = 12.0
THICKNESS_MM = 5.0
LEVEL_OF_MM = 1 / 160  # from the aortic arch to the lower heart are about 16 cm
DRAWN_SHARE = 0.65  # of a nodule's radius, up and down, in which it is drawn: never a mere speck
OFF_CENTRE_MM = 1.5  # of a nodule from the middle between two slices, at most
SATELLITES = (1, 3)
SATELLITE_SIZE = (0.6, 0.8)  # of the largest nodule's radius
FILLED = (0.7, 0.98)  # share of the frame's width that the body takes


@dataclass(frozen=True)
class Kernel:
    """A reconstruction kernel: name, blur of image and noise (px), strength of the noise (HU)."""

    name: str
    blur_px: float
    noise_hu: float


@dataclass(frozen=True)
class Scanner:
    """A make of scanner and its two kernels."""

    manufacturer: str
    kernels: tuple[Kernel, Kernel]


SCANNERS = (
    Scanner("Phantom North", (Kernel("N20", 0.9, 8.0), Kernel("N60", 0.45, 18.0))),
    Scanner("Phantom South", (Kernel("SOFT", 0.8, 10.0), Kernel("LUNG", 0.5, 16.0))),
)


@dataclass(frozen=True)
class Framing:
    """What a pair of patients shares.

    Attributes:
        scanner: that both were scanned with.
        kernels: one per series.
        filled: share of the frame's width that the body takes.
        centre_px: of the body in the frame, (x, y).
        first_mm: position of the lowest slice.
    """

    scanner: Scanner
    kernels: tuple[Kernel, ...]
    filled: float
    centre_px: Point
    first_mm: float


@dataclass(frozen=True)
class DrawnSlice:
    """A slice of one series.

    Attributes:
        hu: float HU of shape (SIDE_PX, SIDE_PX).
        nodule_mask: bool of the same shape, True on nodules.
        position_mm: along the body's axis, upwards.
    """

    hu: NDArray[np.float64]
    nodule_mask: NDArray[np.bool_]
    position_mm: float


@dataclass(frozen=True)
class DrawnPatient:
    """A patient's series, one per kernel of the framing, each from the lowest slice up.

    Attributes:
        series: the slices of each series.
        mm_per_px: of all slices.
    """

    series: tuple[tuple[DrawnSlice, ...], ...]
    mm_per_px: float


@dataclass(frozen=True)
class _Ball:
    """A nodule: centre in drawing pixels and mm, radius in mm, and the seed of its outline."""

    centre: Point
    z_mm: float
    radius_mm: float
    hu: float
    seed: int


def random_framing(rng: np.random.Generator, series: int) -> Framing:
    """Draw scanner, kernels and frame of a pair of patients.

    Args:
        series: how many each of the two has, 1 or 2, each with a kernel of its own.
    """
    scanner = SCANNERS[int(rng.integers(len(SCANNERS)))]
    first = int(rng.integers(len(scanner.kernels)))
    kernels = (scanner.kernels[first],) if series == 1 else scanner.kernels
    centre = (SIDE_PX * (0.5 + rng.normal(0, 0.015)), SIDE_PX * (0.5 + rng.normal(0, 0.02)))
    return Framing(scanner, kernels, rng.uniform(*FILLED), centre, float(rng.integers(-300, 0)))


def draw_patient(seed: tuple[int, ...], framing: Framing, *, nodule: bool) -> DrawnPatient:
    """Draw a patient's slices.

    Args:
        seed: the same seed gives the same person with and without nodules.
        framing: scanner, kernels and frame.
        nodule: whether to draw nodules, in two or three neighbouring slices.
    """
    people, nodules, shapes, noise = np.random.default_rng(seed).spawn(4)
    body = random_body(people)
    # A higher slice is nearer to the arch of the aorta, where `level` is 0.
    lowest = float(people.uniform(0.05 + SLICES * SPACING_MM * LEVEL_OF_MM, 0.95))
    mm_per_px = 2 * body.half_width / (framing.filled * SIDE_PX)
    anatomy = int(people.integers(2**32))
    canvases = [Canvas(SIDE_PX, SIDE_PX, mm_per_px, framing.centre_px) for _ in range(SLICES)]
    lungs = [
        _draw(canvas, replace(body, level=lowest - number * SPACING_MM * LEVEL_OF_MM), anatomy)
        for number, canvas in enumerate(canvases)
    ]
    balls = _random_balls(canvases[0], lungs, nodules) if nodule else []
    bend = bend_of(canvases[0], shapes)
    series: list[list[DrawnSlice]] = [[] for _ in framing.kernels]
    for number, canvas in enumerate(canvases):
        mask = _draw_balls(canvas, balls, number * SPACING_MM)
        sharp, drawn = bent(canvas.hu, bend), bent(mask.convert("F"), bend) > 127
        position_mm = framing.first_mm + number * SPACING_MM
        for slices, kernel in zip(series, framing.kernels, strict=True):
            hu = ndimage.gaussian_filter(sharp, kernel.blur_px)
            grain, normal = kernel.blur_px, noise.normal(size=hu.shape)
            hu += noise_hu(normal, grain_px=grain, strength_hu=kernel.noise_hu)
            slices.append(DrawnSlice(hu, drawn, position_mm))
    return DrawnPatient(tuple(map(tuple, series)), mm_per_px)


def _draw(canvas: Canvas, body: Body, seed: int) -> Image.Image:
    """Draw all but nodules, with the same random numbers at every level; return the lungs' mask."""
    rng = np.random.default_rng(seed)
    lungs = draw_body(canvas, body, rng)
    draw_vessels(canvas, lungs, body, np.random.default_rng(seed + 1))
    return lungs


def _random_balls(
    canvas: Canvas, lungs: list[Image.Image], rng: np.random.Generator
) -> list[_Ball]:
    """Place nodules between two neighbouring slices, where both show lung."""
    lower = int(rng.integers(SLICES - 1))
    room = ImageChops.darker(lungs[lower], lungs[lower + 1])
    radius_mm, hu = float(rng.uniform(*NODULE_RADIUS_MM)), float(rng.uniform(*NODULE_HU))
    balls = []
    for number in range(1 + int(rng.integers(*SATELLITES, endpoint=True))):
        size_mm = radius_mm * (1.0 if number == 0 else float(rng.uniform(*SATELLITE_SIZE)))
        centre = place_nodule(canvas, room, size_mm, rng)
        z_mm = (lower + 0.5) * SPACING_MM + float(rng.uniform(-OFF_CENTRE_MM, OFF_CENTRE_MM))
        balls.append(_Ball(centre, z_mm, size_mm, hu, int(rng.integers(2**32))))
    return balls


def _draw_balls(canvas: Canvas, balls: list[_Ball], height_mm: float) -> Image.Image:
    """Draw the nodules' cross-sections at a height and return their mask."""
    mask = canvas.stencil()
    for ball in balls:
        away_mm = abs(height_mm - ball.z_mm)
        if away_mm < DRAWN_SHARE * ball.radius_mm:
            radius_px = np.sqrt(ball.radius_mm**2 - away_mm**2) * canvas.px_per_mm
            rng = np.random.default_rng(ball.seed)
            draw_spiculated(ImageDraw.Draw(mask), ball.centre, float(radius_px), rng)
    if balls:
        canvas.hu.paste(balls[0].hu, mask=mask)
    return mask
