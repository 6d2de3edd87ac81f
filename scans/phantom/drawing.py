"""Synthetic axial chest CT slices, with and without a spiculated nodule.

These are drawings, not scans. They let the whole pipeline run, and be tested, on a machine without
data, and say nothing about how well a model does on people. Person, height of the slice, framing,
window and noise come from one distribution for both classes; only the nodule differs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from scans.errors import SourceError
from scans.phantom.anatomy import Body, draw_body, random_body
from scans.phantom.canvas import MARGIN_PX, SUPERSAMPLING, Canvas
from scans.phantom.lungs import Nodule, draw_nodules, draw_vessels
from scans.progress import progress

CLASSES = ("adenocarcinoma", "normal")
DEFAULT_IMAGES = 240
MIN_SIDE_PX = 64
OUTSIDE_HU = -3000  # beyond the field of view: black in every window
# Window level and width in HU, and how often it is used; as in reading practice, see
# https://radiopaedia.org/articles/windowing-ct
WINDOWS = {
    "lung": (-600.0, 1500.0, 0.45),
    "wide": (-250.0, 2200.0, 0.35),
    "mediastinal": (45.0, 400.0, 0.2),
}


@dataclass(frozen=True)
class Phantom:
    """A synthetic slice and the truth about it.

    Attributes:
        image: uint8 grey of shape (height, width), 0-255.
        nodule_mask: bool of the same shape, True on nodules.
        nodules: where they are and how large, the largest first; empty without.
        window: name of the window it is shown in, one of WINDOWS.
    """

    image: NDArray[np.uint8]
    nodule_mask: NDArray[np.bool_]
    nodules: tuple[Nodule, ...]
    window: str


def make_phantom(
    rng_or_seed: np.random.Generator | int | tuple[int, ...],
    *,
    nodule: bool,
    image_size_px: tuple[int, int] | None = None,
) -> Phantom:
    """Draw one slice.

    Args:
        rng_or_seed: the same seed gives the same person and framing with and without the nodule.
        nodule: whether to draw nodules.
        image_size_px: width and height; drawn at random, about 300 to 440 wide, when None.

    Raises:
        SourceError: a side is below MIN_SIDE_PX.
    """
    people, nodules, noise = np.random.default_rng(rng_or_seed).spawn(3)
    body = random_body(people)
    canvas = _framed_canvas(body, image_size_px, people)
    lungs = draw_body(canvas, body, people)
    draw_vessels(canvas, lungs, body, people)
    truth, drawn = draw_nodules(canvas, lungs, nodules) if nodule else ([], canvas.stencil())
    bend = bend_of(canvas, noise)
    hu = bent(canvas.hu, bend)
    hu = ndimage.gaussian_filter(hu, noise.uniform(0.4, 0.8))  # the scanner's point spread
    normal = noise.normal(size=hu.shape)
    hu += noise_hu(normal, grain_px=noise.uniform(0.4, 0.9), strength_hu=noise.uniform(5, 20))
    _cut_field_of_view(hu, noise)
    window = str(noise.choice(list(WINDOWS), p=[share for _, _, share in WINDOWS.values()]))
    image = _windowed(hu, window, noise)
    nodule_mask = bent(drawn.convert("F"), bend) > 127
    return Phantom(image, nodule_mask, tuple(_bent_nodule(n, bend) for n in truth), window)


def _bent_nodule(nodule: Nodule, bend: NDArray[np.float64]) -> Nodule:
    """Return a nodule with its centre where bending has moved it."""
    x, y = (value + MARGIN_PX for value in nodule.centre_px)
    distance = (bend[0] - y) ** 2 + (bend[1] - x) ** 2
    row, column = np.unravel_index(np.argmin(distance), distance.shape)
    return replace(nodule, centre_px=(float(column), float(row)))


def write_phantoms(
    folder: Path, masks: Path, *, images: int = DEFAULT_IMAGES, seed: int = 0
) -> None:
    """Write a folder of class folders, as any source of scans has, and the nodules' masks.

    Args:
        folder: gets `<class>/phantom-<number>.png`, 8-bit grey; half of them per class.
        masks: gets `phantom-<number>.png` for each slice with a nodule: 8-bit grey, 255 on the
            nodule and 0 elsewhere, of the slice's size. Not below `folder`, where it would be
            taken for a class.
        images: how many slices.
        seed: of the whole set.

    Raises:
        SourceError: fewer images than classes.
    """
    if images < len(CLASSES):
        raise SourceError(
            f"Expected phantom_images of at least {len(CLASSES)}, one per class. Received: {images}"
        )
    for label in CLASSES:
        (folder / label).mkdir(parents=True, exist_ok=True)
    masks.mkdir(parents=True, exist_ok=True)
    for number in progress(range(images), "Drawing phantoms", "scan"):
        label = CLASSES[number % len(CLASSES)]
        # One size for each pair of classes: by chance alone, sizes would tell them apart a little.
        size_px = _random_size_px(np.random.default_rng((seed, number // len(CLASSES))))
        phantom = make_phantom(
            (seed, number), nodule=label == "adenocarcinoma", image_size_px=size_px
        )
        name = f"phantom-{number:04d}.png"
        Image.fromarray(phantom.image).save(folder / label / name)
        if phantom.nodules:
            Image.fromarray(phantom.nodule_mask.astype(np.uint8) * 255).save(masks / name)


def _random_size_px(rng: np.random.Generator) -> tuple[int, int]:
    """Draw width and height of an exported slice, wider than high as in the usual data sets."""
    width = int(rng.integers(300, 441))
    return width, round(width * rng.uniform(0.7, 0.84))


def _framed_canvas(
    body: Body, image_size_px: tuple[int, int] | None, rng: np.random.Generator
) -> Canvas:
    """Choose image size, scale and position as people who export slices do."""
    random_size_px = _random_size_px(rng)
    width, height = image_size_px or random_size_px
    if min(width, height) < MIN_SIDE_PX:
        raise SourceError(
            f"Expected a phantom of at least {MIN_SIDE_PX} pixels a side. "
            f"Received: {width} x {height}"
        )
    filled = rng.uniform(0.82, 1.04)  # share of the width that the body takes
    # The second term only matters for a frame that is wider than any slice.
    mm_per_px = max(2 * body.half_width / (filled * width), 1.6 * body.half_depth / height)
    centre = (width * (0.5 + rng.normal(0, 0.015)), height * (0.5 + rng.normal(0, 0.02)))
    return Canvas(width, height, mm_per_px, centre)


def bend_of(canvas: Canvas, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return, for each pixel, where in the drawing it comes from: no organ is an ellipse.

    Returns:
        Row and column of the reduced drawing, shape (2, height, width).
    """
    at = np.indices((canvas.height_px, canvas.width_px), dtype=np.float64) + MARGIN_PX
    size = (canvas.width_px, canvas.height_px)
    for coarse, strength_mm in ((4, 5.0), (9, 1.8)):
        for axis in range(2):
            knots = rng.normal(0, strength_mm / canvas.mm_per_px, (coarse, coarse))
            grid = Image.fromarray(knots.astype(np.float32)).resize(size, Image.Resampling.BICUBIC)
            at[axis] += np.asarray(grid)
    return at


def bent(drawing: Image.Image, bend: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a drawing of mode F, averaged to the final size and bent."""
    averaged = np.asarray(drawing.reduce(SUPERSAMPLING))
    return np.asarray(ndimage.map_coordinates(averaged, bend, order=1, mode="nearest"))


def noise_hu(
    normal: NDArray[np.float64], *, grain_px: float, strength_hu: float
) -> NDArray[np.float64]:
    """Return grainy noise: reconstruction correlates neighbouring pixels.

    Args:
        normal: independent normal values, shape (height, width).
        grain_px: over how many pixels it is correlated, as a standard deviation.
        strength_hu: standard deviation of the noise.
    """
    grain = ndimage.gaussian_filter(normal, grain_px)
    return np.asarray(grain / grain.std() * strength_hu)


def _cut_field_of_view(hu: NDArray[np.float64], rng: np.random.Generator) -> None:
    """Blacken what lies outside the circle that the scanner reconstructs, in half of the slices."""
    height, width = hu.shape
    radius = width * rng.uniform(0.49, 0.56)
    if rng.random() < 0.5:
        y, x = np.ogrid[:height, :width]
        hu[(x - width / 2) ** 2 + (y - height / 2) ** 2 > radius**2] = OUTSIDE_HU


def _windowed(hu: NDArray[np.float64], window: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Show HU as grey levels through a window whose level and width vary a little."""
    level, width, _ = WINDOWS[window]
    level += rng.normal(0, 0.02) * width
    width *= rng.uniform(0.92, 1.08)
    grey = (hu - level + width / 2) / width
    return np.asarray((grey.clip(0, 1) * 255).round(), dtype=np.uint8)
