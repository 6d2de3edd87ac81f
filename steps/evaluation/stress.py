"""Shortcut stress tests: change how a scan was exported, not what it shows, and score it again.

Each row of the table alters the test scans' files in one way that a radiologist would read
through. A model that loses its answer has learned the export instead of the disease.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from model.decoding.scan_file import decode_grey
from steps.metrics import balanced_accuracy
from steps.training.augmentation import cumulative, matched_histogram

COMMON_SIZE_PX = 256
BORDER_FRACTION = 0.06  # cut off each side
JPEG_QUALITY = 50
# Colours of the lines drawn into some of the public set's healthy scans.
LINE_COLOURS = ((0, 0, 0), (255, 255, 255), (237, 28, 36))

Grey = NDArray[np.uint8]
Change = Callable[[Grey, str, np.random.Generator], bytes]


def stress_rows(donors: Mapping[str, Sequence[Grey]]) -> dict[str, Change]:
    """Return the changes by name.

    Args:
        donors: grey levels of training scans by class: whose tones the other classes get.

    Returns:
        Functions of grey levels (height, width), the scan's class and a source of random draws,
        to the bytes of the changed file.
    """
    return {
        "brightness x 0.6": _toned(lambda v, _: v * 0.6),
        "brightness x 1.4": _toned(lambda v, _: v * 1.4),
        "contrast x 0.6": _toned(lambda v, mean: mean + (v - mean) * 0.6),
        "contrast x 1.4": _toned(lambda v, mean: mean + (v - mean) * 1.4),
        "gamma 0.6": _toned(lambda v, _: v**0.6),
        "gamma 1.6": _toned(lambda v, _: v**1.6),
        "histogram of the other class": _other_class(donors),
        f"JPEG quality {JPEG_QUALITY}": lambda grey, _, __: _file(
            grey, "JPEG", quality=JPEG_QUALITY
        ),
        "PNG": lambda grey, _, __: _file(grey, "PNG"),
        f"resized to {COMMON_SIZE_PX} x {COMMON_SIZE_PX}": _resized,
        "border cut off": _border_cut_off,
        "painted lines": _painted,
        "mirrored": lambda grey, _, __: _file(grey[:, ::-1], "PNG"),
    }


def changed_files(
    files: Sequence[bytes], labels: Sequence[str], change: Change, seed: int
) -> list[bytes]:
    """Apply one change to scans; the draws depend on the seed and the scan's position only."""
    return [
        change(decode_grey(data), label, np.random.default_rng([seed, i]))
        for i, (data, label) in enumerate(zip(files, labels, strict=True))
    ]


def stress_score(
    actual: NDArray[np.int64],
    predicted: NDArray[np.int64],
    unchanged: NDArray[np.int64],
    out_of_domain: NDArray[np.bool_],
) -> dict[str, Any]:
    """Score the answers to changed scans.

    Args:
        actual: class indices (n,).
        predicted: class indices (n,).
        unchanged: the answers before the change (n,).
        out_of_domain: whether the model flags the changed picture as no chest CT (n,).
    """
    return {
        "balanced_accuracy": balanced_accuracy(actual, predicted),
        "accuracy": float((actual == predicted).mean()),
        "same_answer": float((predicted == unchanged).mean()),
        "flagged_out_of_domain": float(out_of_domain.mean()),
        "n": len(actual),
    }


def worst_row(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the row with the least balanced accuracy: the headline."""
    name = min(rows, key=lambda name: rows[name]["balanced_accuracy"])
    return {"row": name, "balanced_accuracy": rows[name]["balanced_accuracy"]}


def _file(grey: Grey, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    if kind == "PNG":  # the same pixels, in a quarter of the time
        options = {"compress_level": 1} | options
    Image.fromarray(grey).save(file, kind, **options)
    return file.getvalue()


def _toned(
    tone: Callable[[NDArray[np.float64], float], NDArray[np.float64]],
) -> Change:
    """Apply a curve to the grey levels, 0-1, given the scan's mean; what leaves 0-1 is lost."""

    def change(grey: Grey, _label: str, _rng: np.random.Generator) -> bytes:
        levels = np.arange(256) / 255
        table = (tone(levels, float(grey.mean()) / 255) * 255).round().clip(0, 255)
        return _file(table.astype(np.uint8)[grey], "PNG")

    return change


def _other_class(donors: Mapping[str, Sequence[Grey]]) -> Change:
    known = {label: [cumulative(grey) for grey in scans] for label, scans in donors.items()}

    def change(grey: Grey, label: str, rng: np.random.Generator) -> bytes:
        others = [tones for other in sorted(known) if other != label for tones in known[other]]
        return _file(matched_histogram(grey, others[rng.integers(len(others))]), "PNG")

    return change


def _resized(grey: Grey, _label: str, _rng: np.random.Generator) -> bytes:
    small = Image.fromarray(grey).resize(
        (COMMON_SIZE_PX, COMMON_SIZE_PX), Image.Resampling.BILINEAR
    )
    return _file(np.asarray(small), "PNG")


def _border_cut_off(grey: Grey, _label: str, _rng: np.random.Generator) -> bytes:
    y, x = (round(BORDER_FRACTION * side) for side in grey.shape)
    return _file(grey[y : grey.shape[0] - y, x : grey.shape[1] - x], "PNG")


def _painted(grey: Grey, _label: str, rng: np.random.Generator) -> bytes:
    """Draw two bent lines, each a sixth to a half of the width long."""
    picture = Image.fromarray(grey).convert("RGB")
    pen = ImageDraw.Draw(picture)
    for _ in range(2):
        at = rng.uniform((0, 0), picture.size)
        heading, length = rng.uniform(0, 2 * np.pi), rng.uniform(0.15, 0.5) * picture.width
        points = [tuple(at)]
        for _ in range(4):
            heading += rng.uniform(-0.3, 0.3)
            at = at + length / 4 * np.array([np.cos(heading), np.sin(heading)])
            points.append(tuple(at))
        width = int(rng.integers(1, max(2, picture.width // 100)))
        pen.line(points, fill=LINE_COLOURS[rng.integers(len(LINE_COLOURS))], width=width)
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=1)
    return file.getvalue()
