"""Pictures that are no chest CT, to see whether the model says so."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import sklearn
from PIL import Image, ImageDraw

OF_EACH_KIND = 8
SIZE_PX = (360, 280)  # width and height, as slices of the public set are


def odd_pictures(seed: int = 0) -> dict[str, list[bytes]]:
    """Draw pictures by kind: `blank`, `noise`, `blurred noise`, `gradient`, `text`, `photograph`.

    Args:
        seed: of what is drawn. The photographs are the two that scikit-learn ships.

    Returns:
        PNG or JPEG files by kind.
    """
    rng = np.random.default_rng(seed)
    kinds = {
        "blank": _blank,
        "noise": _noise,
        "blurred noise": _blurred_noise,
        "gradient": _gradient,
        "text": _text,
    }
    drawn = {name: [_png(draw(rng)) for _ in range(OF_EACH_KIND)] for name, draw in kinds.items()}
    photographs = Path(sklearn.__file__).parent / "datasets" / "images"
    drawn["photograph"] = [path.read_bytes() for path in sorted(photographs.glob("*.jpg"))]
    return drawn


def _png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def _blank(rng: np.random.Generator) -> Image.Image:
    return Image.new("L", SIZE_PX, int(rng.integers(256)))


def _noise(rng: np.random.Generator) -> Image.Image:
    return Image.fromarray(rng.integers(0, 256, SIZE_PX[::-1], dtype=np.uint8))


def _blurred_noise(rng: np.random.Generator) -> Image.Image:
    coarse = Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8))
    return coarse.resize(SIZE_PX, Image.Resampling.BICUBIC)


def _gradient(rng: np.random.Generator) -> Image.Image:
    x, y = (np.linspace(0, 255, side) * rng.random() for side in SIZE_PX)
    return Image.fromarray(np.add.outer(y, x).clip(0, 255).astype(np.uint8))


def _text(rng: np.random.Generator) -> Image.Image:
    page = Image.new("L", SIZE_PX, 255)
    pen = ImageDraw.Draw(page)
    for line in range(16):
        words = ("".join(map(chr, rng.integers(97, 123, rng.integers(2, 9)))) for _ in range(8))
        pen.text((8, 8 + 16 * line), " ".join(words), fill=0)
    return page
