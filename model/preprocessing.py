"""Grey levels to the network's pixels: what differs between sources is taken out here.

The scans of one class often come from one source, so a network can learn the source instead of
the disease: its coloured marks, its borders, its framing, its brightness. Hence grey only, cropped
to the body, and every picture's contrast brought to the same levels (docs/adr/0050-recipe.md and
docs/adr/0056-fixed-medians.md have the numbers).
"""

from __future__ import annotations

import dataclasses
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .body import Box, body_box
from .contrast import fixed_medians, stretched_contrast
from .crop import CropAspect, cut_out
from .decoding.scan_file import decode_grey

IMAGE_SIZE_PX = 224  # VGG16's input, Simonyan and Zisserman 2014

Crop = Literal["body", "fixed"]
CROPS: tuple[Crop, ...] = ("body", "fixed")
ContrastKind = Literal["medians", "stretched"]


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How a scan becomes pixels. Part of the artefact: the same in training and in serving."""

    image_size_px: int = IMAGE_SIZE_PX  # side of the square that the network takes, at least 32
    crop_fraction: float = 0.075  # off each side, of the width or height, where crop is "fixed"
    contrast_cutoff_percent: float = 1.0  # of either end that saturates, where it is "stretched"
    crop: Crop = "body"  # the box around the body, see body.py; or the same share off each side
    contrast_kind: ContrastKind = "medians"  # fixed medians of air and tissue, or the whole range
    crop_aspect: CropAspect = "stretched"  # see crop.py; what a card that does not say it means


class Shown(NamedTuple):
    """What the network sees of a scan."""

    pixels: NDArray[np.uint8]  # RGB with equal channels, (image_size_px, image_size_px, 3)
    box: Box  # where in the scan they are; beyond 0-1 where they show more than the scan


def scan_pixels(data: bytes, settings: Preprocessing) -> NDArray[np.uint8]:
    """Decode a scan's file to the network's pixels.

    Args:
        data: the file's bytes.
        settings: see Preprocessing.

    Returns:
        RGB with equal channels, (image_size_px, image_size_px, 3), 0-255.

    Raises:
        ScanError: the bytes are not one whole picture of a sensible size.
    """
    return prepared_pixels(decode_grey(data), settings)


def prepared_pixels(grey: NDArray[np.uint8], settings: Preprocessing) -> NDArray[np.uint8]:
    """Crop, resize and set the contrast of grey levels: the pixels of `shown`."""
    return shown(grey, settings).pixels


def shown(grey: NDArray[np.uint8], settings: Preprocessing) -> Shown:
    """Crop, resize and set the contrast of grey levels.

    Args:
        grey: (height, width), 0-255, the whole picture.
        settings: see Preprocessing.
    """
    off = settings.crop_fraction
    box = body_box(grey) if settings.crop == "body" else (off, off, 1 - off, 1 - off)
    levels, box = cut_out(grey, box, settings.image_size_px, settings.crop_aspect)
    if settings.contrast_kind == "medians":
        levels = fixed_medians(levels)
    else:
        levels = stretched_contrast(levels, settings.contrast_cutoff_percent)
    return Shown(np.asarray(Image.merge("RGB", [Image.fromarray(levels)] * 3)), box)
