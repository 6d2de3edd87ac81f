"""The network in Keras: VGG16 without its top, with the normalisation inside, and its export.

Only training and the comparison with the full-precision model come here; serving runs the
exported file (see runtime.py) and needs no Keras.
"""

from __future__ import annotations

import contextlib
import errno
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .artefact import Head
from .weights import BLOCKS, Tensor

Precision = Literal["int8", "bf16", "f32"]
PRECISIONS: tuple[Precision, ...] = ("int8", "bf16", "f32")

# Mean of ImageNet's training pixels per channel, blue, green, red: what VGG16 was trained with
# (Simonyan & Zisserman 2015, section 2.1; the values of Caffe's release, which Keras uses).
IMAGENET_MEAN_BGR = (103.939, 116.779, 123.68)


def build_base(tensors: list[Tensor] | None, image_size_px: int, seed: int = 0) -> Any:
    """Build VGG16 without top, frozen, on raw pixels.

    Args:
        tensors: the 26 kernels and biases in Keras's layout; None draws them at random.
        image_size_px: side of the square input, at least 32.
        seed: of the random tensors.

    Returns:
        A keras.Model: `uint8` RGB (n, side, side, 3) in 0-255 to the last feature map, `float32`
        (n, side / 32, side / 32, 512), never negative.
    """
    import keras

    keras.utils.set_random_seed(seed)
    pixels = keras.Input((image_size_px, image_size_px, 3), dtype="uint8", name="pixels")
    rgb = keras.ops.cast(pixels, "float32")
    bgr = keras.ops.flip(rgb, axis=-1)
    centred = keras.ops.subtract(bgr, np.array(IMAGENET_MEAN_BGR, np.float32))
    vgg16 = keras.applications.VGG16(include_top=False, weights=None, input_tensor=centred)
    if tensors is not None:
        vgg16.set_weights(tensors)
    base = keras.Model(pixels, vgg16.output, name="vgg16_base")
    base.trainable = False
    return base


def build_head(feature_count: int, class_count: int) -> Any:
    """Build the new head: one dense layer from features to a logit per class.

    Args:
        feature_count: length of a feature vector (see features.py).
        class_count: number of classes, at least 2.

    Returns:
        A keras.Model: `float32` (n, feature_count) to logits (n, class_count).
    """
    import keras

    features = keras.Input((feature_count,), dtype="float32", name="features")
    # One layer with a convex loss ends up in the same place from anywhere; zeros draw nothing.
    logits = keras.layers.Dense(class_count, kernel_initializer="zeros", name="logits")(features)
    return keras.Model(features, logits, name="head")


def with_head(base: Any, head: Head) -> Any:
    """Join the base and a trained head to one full-precision network.

    Args:
        base: what `build_base` returned.
        head: the trained dense layer.

    Returns:
        A keras.Model: `uint8` RGB pixels (n, side, side, 3) to probabilities (n, classes).
    """
    import keras

    vectors = pooled_features(base.output)
    dense = keras.layers.Dense(len(head.bias), activation="softmax", name="probabilities")
    network = keras.Model(base.input, dense(vectors), name="chest_ct")
    dense.set_weights([head.kernel, head.bias])
    return network


def pooled_features(maps: Any) -> Any:
    """Build what features.feature_vectors computes as Keras layers.

    Args:
        maps: a Keras tensor (n, height, width, channels), never negative.

    Returns:
        A Keras tensor (n, channels).
    """
    import keras

    # The root's slope is endless at 0, where fine-tuning would divide by it.
    root = keras.ops.sqrt(keras.ops.maximum(maps, 1e-12))
    return keras.layers.GlobalAveragePooling2D(name="features")(root)


def split_at(base: Any, trainable_blocks: int) -> tuple[Any, Any]:
    """Cut the base in two before its last blocks.

    Args:
        base: what `build_base` returned.
        trainable_blocks: how many of the five blocks belong to the upper part, 1 to 5.

    Returns:
        The lower part (pixels to the map at the boundary) and the upper part (that map to the
        last feature map). They share their layers with `base`.
    """
    import keras

    first = len(BLOCKS) - trainable_blocks + 1
    boundary = (
        base.get_layer(f"block{first - 1}_pool").output
        if first > 1
        else base.get_layer("block1_conv1").input
    )
    lower = keras.Model(base.input, boundary, name="frozen_blocks")
    upper_input = keras.Input(boundary.shape[1:], name="boundary")
    maps = upper_input
    start = [layer.name for layer in base.layers].index(f"block{first}_conv1")
    for layer in base.layers[start:]:
        maps = layer(maps)
    return lower, keras.Model(upper_input, maps, name="trainable_blocks")


def export(
    network: Any,
    path: Path,
    precision: Precision,
    calibration: Iterable[NDArray[np.uint8]] = (),
) -> None:
    """Write a Keras network as OpenVINO IR.

    Args:
        network: takes `uint8` pixels (n, side, side, 3).
        path: of the `.xml`; the weights go beside it with the suffix `.bin`.
        precision: `int8` is quantised with NNCF (post-training, symmetric per-channel weights);
            `bf16` and `f32` are both stored as float32, the runtime computes in that precision.
        calibration: pixels (side, side, 3) of training scans, for `int8` only.

    Raises:
        ValueError: `int8` without calibration scans.
        OSError: the files cannot be written.
    """
    import openvino

    path.parent.mkdir(parents=True, exist_ok=True)
    with _write_errors(path):
        network.export(str(path), format="openvino", verbose=False)
    if precision != "int8":
        return
    import nncf

    samples = [pixels[np.newaxis] for pixels in calibration]
    if not samples:
        raise ValueError(
            "int8 needs training scans to calibrate with; received none. "
            "Add training scans or choose precision bf16 or f32."
        )
    nncf.set_log_level(40)  # logging.ERROR
    core = openvino.Core()
    floating = core.read_model(path)
    with contextlib.redirect_stdout(sys.stderr):  # its progress bar is no result
        quantised = nncf.quantize(floating, nncf.Dataset(samples), subset_size=len(samples))
    part = path.with_name(f"{path.stem}_int8.xml")
    with _write_errors(part):
        openvino.save_model(quantised, part, compress_to_fp16=False)
    del floating, quantised  # they hold the old weights file open
    part.with_suffix(".bin").replace(path.with_suffix(".bin"))
    part.replace(path)


@contextlib.contextmanager
def _write_errors(path: Path) -> Iterator[None]:
    """Make an OSError of what OpenVINO raises when a file system takes no more."""
    try:
        yield
    except RuntimeError as error:
        if "iostream" not in str(error):
            raise
        reason = "The network could not be written whole: is the disk full? Free space, run again"
        raise OSError(errno.EIO, reason, str(path)) from error
