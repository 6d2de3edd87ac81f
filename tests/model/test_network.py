"""The Keras network and what it is exported to give the same answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from model.artefact import Head
from model.decision import probabilities
from model.features import feature_vectors
from model.keras_network import build_base, pooled_features
from model.network import IMAGENET_MEAN_BGR, Precision, export
from model.preprocessing import Preprocessing, scan_pixels
from model.runtime import Runtime
from model.tensors import Tensor, random_tensors, read_tensors
from scans.manifest import read_manifest
from tests.model.tiny import Tiny

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), np.uint8)


@pytest.fixture(scope="module")
def tensors() -> list[Tensor]:
    return random_tensors(seed=0)


@pytest.fixture(scope="module")
def base(tensors: list[Tensor]) -> Any:
    return build_base(tensors, 32)


@pytest.fixture(scope="module")
def maps(base: Any) -> Any:
    return np.asarray(base(PIXELS))


def test_the_normalisation_is_inside_and_as_keras_has_it(base: Any) -> None:
    centred = keras.Model(base.input, base.get_layer("block1_conv1").input)(PIXELS)
    keras_own = keras.applications.vgg16.preprocess_input(PIXELS.astype(np.float32))
    np.testing.assert_allclose(centred, keras_own, atol=1e-4)
    blue = np.asarray(centred)[..., 0] + IMAGENET_MEAN_BGR[0]
    np.testing.assert_allclose(blue, PIXELS[..., 2], atol=1e-4)


def test_all_layers_are_frozen(base: Any) -> None:
    assert base.trainable_weights == []
    assert len(base.weights) == 26


@pytest.mark.parametrize(
    ("precision", "cosine"), [("f32", 0.999999), ("bf16", 0.99), ("int8", 0.95)]
)
def test_an_export_agrees_with_keras(
    tensors: list[Tensor], maps: Any, precision: Precision, cosine: float, tmp_path: Path
) -> None:
    export(tensors, 32, tmp_path / "base.xml", precision, PIXELS)
    exported = Runtime(tmp_path / "base.xml", precision)(PIXELS)
    assert exported.shape == maps.shape
    assert (exported >= 0).all()
    ours, theirs = feature_vectors(exported), feature_vectors(maps)
    norms = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    assert ((ours * theirs).sum(axis=1) / norms).min() > cosine
    if precision == "f32":
        np.testing.assert_allclose(exported, maps, rtol=1e-3, atol=1e-3 * maps.max())


@pytest.mark.parametrize("side", [32, 56])  # at 56 px, block 4 has a row that block 5 leaves out
def test_maps_of_two_blocks_are_joined_as_keras_joins_them(
    tensors: list[Tensor], side: int, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (3, side, side, 3), np.uint8)
    export(tensors, side, tmp_path / "joined.xml", "f32", feature_blocks=2)
    export(tensors, side, tmp_path / "last.xml", "f32")
    export(tensors, side, tmp_path / "fourth.xml", "f32", blocks=4)
    joined, last, fourth = (
        Runtime(tmp_path / f"{name}.xml", "f32")(pixels) for name in ("joined", "last", "fourth")
    )
    assert joined.shape == (3, 2, 2, 1024)
    np.testing.assert_allclose(joined[..., :512], fourth[:, :2, :2], rtol=1e-5, atol=1e-6)
    repeated = last.repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_allclose(joined[..., 512:], repeated, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        feature_vectors(joined)[:, 512:], feature_vectors(last), rtol=1e-5, atol=1e-6
    )
    of_keras = np.asarray(build_base(tensors, side, feature_blocks=2)(pixels))
    np.testing.assert_allclose(joined, of_keras, rtol=1e-3, atol=1e-3 * of_keras.max())


def test_int8_is_a_quarter_of_the_size_and_leaves_no_other_file(
    tensors: list[Tensor], tmp_path: Path
) -> None:
    export(tensors, 32, tmp_path / "f32" / "base.xml", "f32")
    export(tensors, 32, tmp_path / "int8" / "base.xml", "int8", PIXELS)
    sizes = [(tmp_path / name / "base.bin").stat().st_size for name in ("f32", "int8")]
    assert sizes[1] < 0.3 * sizes[0]
    left = sorted(path.name for path in (tmp_path / "int8").iterdir())
    assert left == ["base.bin", "base.xml"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("precision", ["f32", "int8"])
def test_a_full_disk_is_an_error_of_the_disk(
    tensors: list[Tensor], precision: Precision, tmp_path: Path
) -> None:
    (tmp_path / "base.bin").symlink_to("/dev/full")
    with pytest.raises(OSError, match="is the disk full"):
        export(tensors, 32, tmp_path / "base.xml", precision, PIXELS)


def test_int8_without_scans_to_calibrate_with_is_refused(
    tensors: list[Tensor], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="needs training scans to calibrate with"):
        export(tensors, 32, tmp_path / "base.xml", "int8")


def test_pooled_features_are_the_runtimes_features(base: Any, maps: Any) -> None:
    pooled = keras.Model(base.input, pooled_features(base.output))(PIXELS)
    np.testing.assert_allclose(pooled, feature_vectors(maps), atol=2e-6, rtol=1e-4)


def test_model_keras_is_the_base_with_the_head_of_the_pyfunc(tiny_pipeline: Tiny) -> None:
    network = keras.models.load_model(tiny_pipeline.trained / "model.keras")
    base = build_base(read_tensors(tiny_pipeline.prepared / "base.npz"), 32)
    head = Head.read(tiny_pipeline.model / "artifacts" / "network")
    rows = read_manifest(tiny_pipeline.data)[:6]
    settings = Preprocessing(image_size_px=32)
    pixels = np.stack(
        [scan_pixels((tiny_pipeline.data / r.path).read_bytes(), settings) for r in rows]
    )
    expected = probabilities(head.logits(feature_vectors(np.asarray(base(pixels)))))
    np.testing.assert_allclose(network(pixels), expected, atol=1e-4)
