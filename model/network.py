"""The network on OpenVINO: VGG16 without its top, with the normalisation inside, from its weights.

It is built with OpenVINO's own operators, so neither this nor scoring needs a training framework;
keras_network.py has the same network for fine-tuning.
"""

from __future__ import annotations

import contextlib
import errno
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import openvino
from numpy.typing import NDArray
from openvino import opset13 as ops

from .tensors import BLOCKS, Tensor

Precision = Literal["int8", "bf16", "f32"]
PRECISIONS: tuple[Precision, ...] = ("int8", "bf16", "f32")

# Mean of ImageNet's training pixels per channel, blue, green, red: what VGG16 was trained with
# (Simonyan & Zisserman 2015, section 2.1; the values of Caffe's release, which Keras uses).
IMAGENET_MEAN_BGR = (103.939, 116.779, 123.68)

TO_CHANNELS_FIRST = (0, 3, 1, 2)
TO_CHANNELS_LAST = (0, 2, 3, 1)


def vgg16(
    tensors: Sequence[Tensor],
    image_size_px: int,
    blocks: int = len(BLOCKS),
    feature_blocks: int = 1,
) -> openvino.Model:
    """Build the first blocks of VGG16 without top on raw pixels.

    Args:
        tensors: kernel then bias of each convolution, in Keras's layout (see tensors.py); those
            of later blocks are not used.
        image_size_px: side of the square input, at least 32.
        blocks: how many of the five blocks, from the input; 0 centres the pixels only.
        feature_blocks: of how many of these, the last ones, the maps are given.

    Returns:
        `uint8` RGB (n, side, side, 3) in 0-255 to the map after the last block's pooling,
        `float32` (n, side / 2**blocks, side / 2**blocks, channels), channels last as in Keras:
        never negative; with 0 blocks blue, green and red less their means. Maps of several blocks
        are joined along the channels, at the resolution of the earliest of them.
    """
    pixels = ops.parameter([-1, image_size_px, image_size_px, 3], dtype=np.uint8, name="pixels")
    bgr = ops.gather(pixels, _integers([2, 1, 0]), _integers(3))
    mean = ops.constant(np.array(IMAGENET_MEAN_BGR, np.float32))
    centred = ops.subtract(ops.convert(bgr, np.float32), mean)
    maps = ops.transpose(centred, _integers(TO_CHANNELS_FIRST))
    layers = iter(zip(tensors[0::2], tensors[1::2], strict=True))
    of_blocks = [maps]
    for convolutions, _ in BLOCKS[:blocks]:
        for _ in range(convolutions):
            maps = _convolution(maps, *next(layers))
        maps = ops.max_pool(
            maps, strides=[2, 2], dilations=[1, 1], pads_begin=[0, 0], pads_end=[0, 0],
            kernel_shape=[2, 2],
        ).output(0)  # fmt: skip
        of_blocks.append(maps)
    of_blocks = [ops.transpose(m, _integers(TO_CHANNELS_LAST)) for m in of_blocks[-feature_blocks:]]
    joined = of_blocks[0] if feature_blocks == 1 else _joined(of_blocks, image_size_px >> blocks)
    return openvino.Model([ops.result(joined, name="maps")], [pixels], "vgg16_base")


def _joined(maps: Sequence[openvino.Node], side: int) -> openvino.Node:
    """Join the maps of successive blocks along their channels, at the first one's resolution.

    A place of a later map is repeated, so that a channel's average stays what it was. Where a side
    is odd, pooling leaves out the last row and column; so does the earlier map then.

    Args:
        maps: (n, height, width, channels) each, from the earliest block to the last.
        side: height and width of the last one.
    """
    finest = len(maps) - 1
    places = [np.repeat(np.arange(side << (finest - i)), 1 << i) for i in range(finest + 1)]
    same_size = []
    for own, each in zip(places, maps, strict=True):
        rows = ops.gather(each, _integers(own), _integers(1))
        same_size.append(ops.gather(rows, _integers(own), _integers(2)))
    return ops.concat(same_size, axis=3)


def _convolution(maps: openvino.Node, kernel: Tensor, bias: Tensor) -> openvino.Node:
    """Add a 3 x 3 convolution with a border of zeros, its bias and the ReLU."""
    out_in_height_width = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1), np.float32)
    convolved = ops.convolution(
        maps, ops.constant(out_in_height_width), strides=[1, 1], pads_begin=[1, 1],
        pads_end=[1, 1], dilations=[1, 1],
    )  # fmt: skip
    shift = ops.constant(bias.reshape(1, -1, 1, 1).astype(np.float32))
    return ops.relu(ops.add(convolved, shift))


def _integers(values: Sequence[int] | NDArray[np.intp] | int) -> openvino.Node:
    return ops.constant(np.array(values, np.int64))


def export(
    tensors: Sequence[Tensor],
    image_size_px: int,
    path: Path,
    precision: Precision,
    calibration: Iterable[NDArray[np.uint8]] = (),
    blocks: int = len(BLOCKS),
    feature_blocks: int = 1,
) -> None:
    """Write VGG16 without top as OpenVINO IR, quantised where that is asked for.

    Args:
        tensors: as `vgg16` takes them.
        image_size_px: side of the square input.
        path: of the `.xml`; the weights go beside it with the suffix `.bin`.
        precision: `int8` is quantised with NNCF (post-training, symmetric per-channel weights);
            `bf16` and `f32` are both stored as float32, the runtime computes in that precision.
        calibration: pixels (side, side, 3) of training scans, for `int8` only.
        blocks: how many of the five blocks, from the input.
        feature_blocks: of how many of these, the last ones, the maps are given, see `vgg16`.

    Raises:
        ValueError: `int8` without calibration scans.
        OSError: the files cannot be written.
    """
    network = vgg16(tensors, image_size_px, blocks, feature_blocks)
    if precision == "int8":
        network = _quantised(network, [pixels[np.newaxis] for pixels in calibration])
    _name_operators(network)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _write_errors(path):
        openvino.save_model(network, path, compress_to_fp16=False)


def _name_operators(network: openvino.Model) -> None:
    """Name operators by kind and position, so that the same network is the same file.

    OpenVINO numbers them through the whole process.
    """
    for position, operator in enumerate(network.get_ordered_ops()):
        operator.set_friendly_name(f"{operator.get_type_name()}_{position}")


def _quantised(network: openvino.Model, samples: list[NDArray[np.uint8]]) -> openvino.Model:
    if not samples:
        raise ValueError(
            "int8 needs training scans to calibrate with; received none. "
            "Add training scans or choose precision bf16 or f32."
        )
    import nncf

    nncf.set_log_level(40)  # logging.ERROR
    with contextlib.redirect_stdout(sys.stderr):  # its progress bar is no result
        return nncf.quantize(network, nncf.Dataset(samples), subset_size=len(samples))


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
