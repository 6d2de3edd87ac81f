"""A real pyfunc round a network of 5 kB, for tests of rows, serving and callers.

Decoding, preprocessing, runtime, head, rows, loader and digest are the product's own. The network
averages pixels over 8 x 8 squares and gives four rising functions of the grey level as channels, so
equal pixels get equal rows and other pixels get other ones.
"""

from __future__ import annotations

import base64
import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray
from openvino import opset13 as ops
from PIL import Image

from model.artefact import NETWORK, Card, Head
from model.conformal import Conformal
from model.features import feature_vectors
from model.out_of_domain import fit_out_of_domain
from model.packaging import save_pyfunc
from model.preprocessing import Preprocessing, scan_pixels
from model.runtime import Runtime
from model.series_answer import SeriesAnswer
from scans.phantom.drawing import make_phantom

SIDE_PX = 32
CHANNELS = 4
PHANTOMS = 24  # that the head and the references are made from
CLASSES = ("adenocarcinoma", "normal")
# With two classes only: conformal sets have a quantile for each.
SERIES = SeriesAnswer("maximum", threshold=0.5, conformal=Conformal(0.1, (0.6, 0.6)))
STEPS = (0.0, 0.25, 0.5, 0.75)  # grey levels, 0-1, above which a channel rises


def save_small_model(
    folder: Path, *, classes: tuple[str, ...] = CLASSES, seed: int = 0, **card: Any
) -> Path:
    """Save a pyfunc that scores any scan in a millisecond.

    Args:
        folder: receives `model`; made when missing.
        classes: names of the classes, at least 2.
        seed: of the head. Another seed is another model, with other answers and another digest.
        card: further fields of the card, such as `threshold=0.3` or `conformal=Conformal(…)`.

    Returns:
        The MLflow model's folder, `folder`/model.
    """
    defaults: dict[str, Any] = {"data_digest": "0" * 64, "phantom": True, "precision": "f32"}
    if len(classes) == len(CLASSES):
        defaults["series"] = SERIES
    fields = defaults | {"preprocessing": Preprocessing(image_size_px=SIDE_PX)} | card
    with tempfile.TemporaryDirectory() as scratch:
        network = Path(scratch) / "network"
        network.mkdir()
        write_small_network(network / NETWORK)
        made = Card(classes=classes, **fields)
        features = _phantom_features(network / NETWORK, made)
        _head(features, len(classes), seed).write(network)
        fit_out_of_domain(
            features[:, np.newaxis], np.arange(len(features)).astype(str), 0.02, seed
        ).write(network)
        made.write(network)
        folder.mkdir(parents=True, exist_ok=True)
        save_pyfunc(folder / "model", network, made, base64.b64encode(phantom_png(0)).decode())
    return folder / "model"


def write_small_network(path: Path) -> None:
    """Write the network as OpenVINO IR: pixels in, maps out, as `model.network.vgg16` has them."""
    pixels = ops.parameter([-1, SIDE_PX, SIDE_PX, 3], dtype=np.uint8, name="pixels")
    grey = ops.reduce_mean(ops.convert(pixels, np.float32), np.array([3]), keep_dims=True)
    rising = ops.relu(ops.subtract(ops.divide(grey, np.float32(255)), np.array(STEPS, np.float32)))
    planes = ops.transpose(rising, np.array([0, 3, 1, 2]))
    pooled = ops.avg_pool(planes, [8, 8], [0, 0], [0, 0], [8, 8], exclude_pad=True)
    maps = ops.result(ops.transpose(pooled, np.array([0, 2, 3, 1])), name="maps")
    openvino.save_model(openvino.Model([maps], [pixels], "small"), path)


def phantom_png(seed: int, *, nodule: bool = True) -> bytes:
    """Return a phantom scan as a PNG."""
    png = io.BytesIO()
    Image.fromarray(make_phantom(seed, nodule=nodule).image).save(png, "PNG")
    return png.getvalue()


def _phantom_features(network: Path, card: Card) -> NDArray[np.float32]:
    """Return the features (scans, CHANNELS) of phantoms, with and without a nodule."""
    pngs = [phantom_png(number, nodule=number % 2 == 0) for number in range(PHANTOMS)]
    pixels = np.stack([scan_pixels(png, card.preprocessing) for png in pngs])
    return feature_vectors(Runtime(network, card.precision)(pixels))


def _head(features: NDArray[np.float32], class_count: int, seed: int) -> Head:
    """Draw a head that finds each class about equally often among the phantoms."""
    kernel = np.random.default_rng(seed).normal(size=(CHANNELS, class_count))
    kernel -= kernel.mean(axis=1, keepdims=True)  # or the logits of all classes move together
    kernel /= (features @ kernel).std(axis=0)
    bias = -(features @ kernel).mean(axis=0)
    return Head(kernel.astype(np.float32), bias.astype(np.float32))
