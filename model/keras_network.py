"""VGG16 without its top in Keras: for fine-tuning, and to compare the runtime's network with.

Training comes here; serving and the preparation of the base run `network.py` and need no Keras.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .artefact import Head
from .network import IMAGENET_MEAN_BGR
from .tensors import BLOCKS, Tensor


def build_base(tensors: Sequence[Tensor], image_size_px: int, feature_blocks: int = 1) -> Any:
    """Build VGG16 without top, frozen, on raw pixels.

    Args:
        tensors: the 26 kernels and biases (see tensors.py).
        image_size_px: side of the square input, at least 32.
        feature_blocks: of how many blocks, from the output, the maps are given, see
            `network.vgg16`.

    Returns:
        A keras.Model: `uint8` RGB (n, side, side, 3) in 0-255 to the feature maps, `float32`, never
        negative: (n, side / 32, side / 32, 512) of the last block, (n, side / 16, side / 16, 1024)
        of the last two.
    """
    import keras

    pixels = keras.Input((image_size_px, image_size_px, 3), dtype="uint8", name="pixels")
    rgb = keras.ops.cast(pixels, "float32")
    bgr = keras.ops.flip(rgb, axis=-1)
    centred = keras.ops.subtract(bgr, np.array(IMAGENET_MEAN_BGR, np.float32))
    vgg16 = keras.applications.VGG16(include_top=False, weights=None, input_tensor=centred)
    vgg16.set_weights(tensors)
    of_blocks = [vgg16.get_layer(f"block{n + 1}_pool").output for n in range(len(BLOCKS))]
    maps = joined_maps(of_blocks[-feature_blocks:])
    base = keras.Model(pixels, maps, name="vgg16_base")
    base.trainable = False
    return base


def joined_maps(maps: Sequence[Any]) -> Any:
    """Build what `network.vgg16` does with the maps of successive blocks as Keras layers.

    Args:
        maps: Keras tensors (n, height, width, channels), from the earliest block to the last.

    Returns:
        A Keras tensor with the channels of each, at the resolution of the earliest one.
    """
    import keras

    if len(maps) == 1:
        return maps[0]
    side = maps[-1].shape[1] * 2 ** (len(maps) - 1)
    same_size = []
    for place, each in enumerate(maps):
        repeated = keras.layers.UpSampling2D(2**place, interpolation="nearest")(each)
        beyond = repeated.shape[1] - side
        same_size.append(keras.layers.Cropping2D(((0, beyond), (0, beyond)))(repeated))
    return keras.layers.Concatenate(name="joined_maps")(same_size)


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


def last_blocks(base: Any, blocks: int, feature_blocks: int = 1) -> Any:
    """Cut off the part of the base that fine-tuning trains.

    Args:
        base: what `build_base` returned.
        blocks: how many of the five blocks, from the output, 1 to 5.
        feature_blocks: what `build_base` was given.

    Returns:
        A keras.Model from the map that `network.vgg16` gives with the other blocks to the feature
        maps. It shares its layers with `base`.
    """
    import keras

    layers = [layer for layer in base.layers if layer.name.startswith("block")]
    first = len(BLOCKS) - blocks + 1
    start = [layer.name for layer in layers].index(f"block{first}_conv1")
    boundary = keras.Input(layers[start].input.shape[1:], name="boundary")
    of_blocks = [boundary]
    maps = boundary
    for layer in layers[start:]:
        maps = layer(maps)
        if layer.name.endswith("_pool"):
            of_blocks.append(maps)
    return keras.Model(boundary, joined_maps(of_blocks[-feature_blocks:]), name="trainable_blocks")
