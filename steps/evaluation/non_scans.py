"""Pictures that are no chest CT, to see whether the model says so."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pydicom
import sklearn
from PIL import Image, ImageDraw

from model.decoding.errors import MAX_ASPECT_RATIO, MIN_SIDE_PX
from model.decoding.quiet import quiet_decoders

OF_EACH_KIND = 8
MODALITIES = {"CT": "CT of other body parts", "MR": "MR", "US": "ultrasound", "NM": "nuclear"}
SIZE_PX = (360, 280)  # width and height, as slices of the public set are


def non_scans(seed: int = 0) -> dict[str, list[bytes]]:
    """Draw or read pictures by kind.

    Args:
        seed: of what is drawn. The photographs are the two that scikit-learn ships, the other
            medical images are pydicom's own test files.

    Returns:
        PNG or JPEG files by kind: `blank`, `noise`, `blurred noise`, `gradient`, `text`,
        `photograph` and medical images that are no chest CT, by modality.
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
    return drawn | other_medical_images()


def other_medical_images() -> dict[str, list[bytes]]:
    """Export one frame of each of pydicom's own test files, by modality; none is a chest CT."""
    found: dict[str, list[bytes]] = {}
    seen = set()
    folder = Path(pydicom.__file__).parent / "data" / "test_files"
    for path in sorted(folder.rglob("*.dcm")):
        try:
            with quiet_decoders():
                dataset = pydicom.dcmread(path)
                pixels = np.asarray(dataset.pixel_array, dtype=np.float64)
        except Exception:  # noqa: S112 - many of them are broken on purpose
            continue
        pixels = pixels[0] if int(dataset.get("NumberOfFrames", 1)) > 1 else pixels
        pixels = pixels.mean(axis=2) if pixels.ndim == 3 else pixels
        if pixels.ndim != 2 or not usable(*pixels.shape):
            continue
        grey = ((pixels - pixels.min()) / max(np.ptp(pixels), 1) * 255).astype(np.uint8)
        if grey.tobytes() not in seen:
            seen.add(grey.tobytes())
            kind = MODALITIES.get(str(dataset.get("Modality", "")), "other DICOM")
            found.setdefault(kind, []).append(_png(Image.fromarray(grey)))
    return found


def usable(width_px: int, height_px: int) -> bool:
    """Tell whether the decoder takes a picture of this size at all."""
    short, long = sorted((width_px, height_px))
    return short >= MIN_SIDE_PX and long <= MAX_ASPECT_RATIO * short


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
