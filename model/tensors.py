"""The 26 tensors of VGG16 without top: their shapes, their digest, and files that hold them.

In layer order, kernel then bias of each convolution, as float32 in Keras's layout: kernels
(height, width, in, out), biases (out,).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

Tensor = NDArray[np.float32]

# Convolutions per block and their output channels (Simonyan & Zisserman 2015, configuration D).
BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))


def layer_names() -> list[str]:
    """Return Keras's names of the 13 convolutions, in order."""
    return [
        f"block{block}_conv{conv}"
        for block, (convs, _) in enumerate(BLOCKS, start=1)
        for conv in range(1, convs + 1)
    ]


def tensor_shapes() -> list[tuple[int, ...]]:
    """Return the shapes of the 26 tensors: kernels (3, 3, in, out), biases (out,)."""
    shapes: list[tuple[int, ...]] = []
    channels = 3
    for convolutions, width in BLOCKS:
        for _ in range(convolutions):
            shapes += [(3, 3, channels, width), (width,)]
            channels = width
    return shapes


def random_tensors(seed: int) -> list[Tensor]:
    """Draw tensors as Keras starts an untrained VGG16: Glorot uniform kernels, biases of 0.

    Glorot & Bengio 2010, equation 16: uniform within sqrt(6 / (inputs + outputs)) of 0, where a
    kernel has height x width x channels inputs and as many outputs per output channel.
    """
    rng = np.random.default_rng(seed)
    tensors = []
    for shape in tensor_shapes():
        if len(shape) == 1:
            tensors.append(np.zeros(shape, np.float32))
            continue
        height, width, inputs, outputs = shape
        limit = np.float32(np.sqrt(6 / (height * width * (inputs + outputs))))
        tensors.append((2 * rng.random(shape, np.float32) - 1) * limit)
    return tensors


def write_tensors(tensors: Sequence[Tensor], path: Path) -> None:
    """Write tensors to an `.npz` file, in order."""
    with path.open("wb") as file:
        np.savez(file, *tensors)


def read_tensors(path: Path) -> list[Tensor]:
    """Read the 26 tensors that `write_tensors` wrote."""
    # Opened here: NumPy leaves the file open when it is not a whole archive.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        return [archive[f"arr_{index}"] for index in range(2 * len(layer_names()))]


def tensors_sha256(tensors: Sequence[Tensor]) -> str:
    """Digest tensors as little-endian float32 bytes, in the order given."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(np.ascontiguousarray(tensor, dtype="<f4").tobytes())
    return digest.hexdigest()


def checkpoint_tensors(path: Path) -> list[Tensor]:
    """Read the tensors from a Keras weights file, in either of Keras's two layouts.

    Raises:
        ValueError: the file holds tensors of other shapes.
        OSError, KeyError: it is no such file.
    """
    with h5py.File(path) as file:
        pairs = _pairs_keras_3(file["layers"]) if "layers" in file else _pairs_keras_2(file)
        tensors = [np.asarray(tensor, dtype=np.float32) for pair in pairs for tensor in pair]
    found, expected = [tensor.shape for tensor in tensors], tensor_shapes()
    if found != expected:
        raise ValueError(f"expected tensors of the shapes {expected}, received {found}")
    return tensors


def _pairs_keras_3(layers: Any) -> list[list[Any]]:
    """Return kernel and bias of each convolution: layers are numbered in order of creation."""
    numbered = {name: re.fullmatch(r"conv2d(?:_(\d+))?", name) for name in layers}
    names = sorted(
        (int(match[1] or 0), name) for name, match in numbered.items() if match is not None
    )
    return [[layers[name]["vars"][index][()] for index in "01"] for _, name in names]


def _pairs_keras_2(file: Any) -> list[list[Any]]:
    """Return kernel and bias of each convolution: the file lists its layers and their tensors."""
    layers = file.get("model_weights", file)  # a whole model's file
    pairs = []
    for name in layers.attrs["layer_names"]:
        layer = layers[name]
        tensors = [layer[tensor][()] for tensor in layer.attrs["weight_names"]]
        if tensors:
            pairs.append(tensors)
    return pairs
