"""VGG16's weights: taken only when they are the right ones, from wherever they can be had."""

from __future__ import annotations

from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import requests

from model import weights
from model.tensors import (
    Tensor,
    random_tensors,
    read_tensors,
    tensor_shapes,
    tensors_sha256,
    write_tensors,
)
from model.weights import WeightsError, file_tensors, imagenet_tensors

CACHED = "vgg16_imagenet_notop.npz"


def unreachable(*_: object, **__: object) -> list[Tensor]:
    raise OSError("no route to host")


@pytest.fixture(scope="module")
def tensors() -> list[Tensor]:
    """Tensors of the right number; small, for only their digest counts."""
    rng = np.random.default_rng(0)
    return [rng.normal(size=4).astype(np.float32) for _ in range(26)]


@pytest.fixture
def stand_in(tensors: list[Tensor], monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """These tensors pass for ImageNet's; no way of fetching leads anywhere."""
    monkeypatch.setattr(weights, "IMAGENET_SHA256", tensors_sha256(tensors))
    monkeypatch.setattr(weights, "_from_keras", unreachable)
    monkeypatch.setattr(weights, "_from_package_index", unreachable)
    return tensors


def same(left: list[Tensor], right: list[Tensor]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(left, right, strict=True))


def test_what_was_fetched_is_kept_and_used_without_a_network(
    stand_in: list[Tensor], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said: list[str] = []
    with monkeypatch.context() as once:
        once.setattr(weights, "_from_package_index", lambda: stand_in)
        assert same(imagenet_tensors(said.append, tmp_path), stand_in)
    assert [path.name for path in tmp_path.iterdir()] == [CACHED]
    assert same(imagenet_tensors(said.append, tmp_path), stand_in)
    assert "the cached copy" in said[-1]


def test_kerass_download_comes_before_the_package_index(
    stand_in: list[Tensor], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(weights, "_from_keras", lambda: stand_in)
    said: list[str] = []
    imagenet_tensors(said.append, tmp_path)
    assert said == ["weights: ImageNet, from Keras's download, digest verified"]


@pytest.mark.parametrize("damage", ["changed", "cut short", "another file"])
def test_a_damaged_cached_copy_is_never_used(
    stand_in: list[Tensor], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, damage: str
) -> None:
    path = tmp_path / CACHED
    np.savez(path, *[stand_in[0] + 1, *stand_in[1:]])
    if damage == "cut short":
        np.savez(path, *stand_in)
        path.write_bytes(path.read_bytes()[:500])
    elif damage == "another file":
        path.write_bytes(b"no weights")
    with pytest.raises(WeightsError, match="the cached copy"):
        imagenet_tensors(lambda _: None, tmp_path)
    monkeypatch.setattr(weights, "_from_keras", lambda: stand_in)
    assert same(imagenet_tensors(lambda _: None, tmp_path), stand_in)
    monkeypatch.setattr(weights, "_from_keras", unreachable)
    assert same(imagenet_tensors(lambda _: None, tmp_path), stand_in)  # the copy is mended


def test_other_weights_from_a_download_are_refused(
    stand_in: list[Tensor], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(weights, "_from_keras", lambda: [stand_in[0] + 1, *stand_in[1:]])
    with pytest.raises(WeightsError, match="expected digest"):
        imagenet_tensors(lambda _: None, tmp_path)
    assert not list(tmp_path.iterdir())


def test_every_way_that_failed_is_named_with_what_to_do(
    stand_in: list[Tensor], tmp_path: Path
) -> None:
    with pytest.raises(WeightsError) as raised:
        imagenet_tensors(lambda _: None, tmp_path)
    message = str(raised.value)
    for words in ("Keras's download: OSError: no route to host", "the package index (",
                  "_notop.h5", "weights: random"):  # fmt: skip
        assert words in message


def test_a_cache_that_cannot_be_written_costs_a_line_only(
    stand_in: list[Tensor], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(weights, "_from_keras", lambda: stand_in)
    (tmp_path / "file").write_text("in the way")
    said: list[str] = []
    assert same(imagenet_tensors(said.append, tmp_path / "file" / "cache"), stand_in)
    assert "not cached" in said[-1]


def test_a_missing_file_is_named() -> None:
    with pytest.raises(WeightsError, match=r"received '/no/such/weights.h5', which is no file"):
        file_tensors(Path("/no/such/weights.h5"))


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "weights.h5"
    text.write_text("no weights")
    other = tmp_path / "other.weights.h5"
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save_weights(other)
    for path in (text, other):
        with pytest.raises(WeightsError, match="does not hold VGG16's weights without top"):
            file_tensors(path)


def test_a_file_of_vgg16_is_read(tmp_path: Path) -> None:
    network = keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))
    path = tmp_path / "vgg16.weights.h5"
    network.save_weights(path)
    assert same(file_tensors(path), network.get_weights())


def test_a_whole_models_file_in_keras_2_layout_is_read(tmp_path: Path) -> None:
    network = keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))
    whole, weights_only = tmp_path / "vgg16.h5", tmp_path / "vgg16_notop.h5"
    network.save(whole)
    with h5py.File(whole) as source, h5py.File(weights_only, "w") as target:
        layers = source["model_weights"]
        for name in layers:
            source.copy(layers[name], target)
        for name, value in layers.attrs.items():
            target.attrs[name] = value
    for path in (whole, weights_only):
        assert same(file_tensors(path), network.get_weights()), path.name


def test_tensors_of_other_shapes_are_refused_naming_the_right_ones(tmp_path: Path) -> None:
    network = keras.applications.VGG19(include_top=False, weights=None, input_shape=(32, 32, 3))
    path = tmp_path / "vgg19.weights.h5"
    network.save_weights(path)
    with pytest.raises(WeightsError, match="does not hold VGG16's weights without top") as raised:
        file_tensors(path)
    assert "expected tensors of the shapes [(3, 3, 3, 64), (64,)" in str(raised.value.__cause__)


def test_the_copy_that_keras_keeps_is_used_without_a_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tensors = random_tensors(0)
    monkeypatch.setattr(weights, "IMAGENET_SHA256", tensors_sha256(tensors))
    monkeypatch.setattr(requests, "get", unreachable)
    monkeypatch.setattr(weights, "_from_package_index", unreachable)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    with pytest.raises(WeightsError, match="Keras's download: OSError"):
        imagenet_tensors(lambda _: None, tmp_path / "cache")
    network = keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))
    network.set_weights(tensors)
    (tmp_path / "keras" / "models").mkdir(parents=True)
    kept = tmp_path / "keras" / "models" / weights.KERAS_FILE
    network.save(kept)
    assert same(imagenet_tensors(lambda _: None, tmp_path / "cache"), tensors)


def test_keras_downloads_from_the_address_in_weights() -> None:
    vgg16 = Path(keras.applications.vgg16.__file__).parents[2] / "src/applications/vgg16.py"
    text = "".join(vgg16.read_text().split()).replace('""', "")
    assert weights.KERAS_URL in text
    assert weights.KERAS_FILE in text


def test_random_tensors_are_glorot_uniform_and_one_seed_draws_them_again() -> None:
    tensors, again, other = random_tensors(0), random_tensors(0), random_tensors(1)
    assert [tensor.shape for tensor in tensors] == tensor_shapes()
    assert same(tensors, again)
    assert not same(tensors, other)
    assert all(tensor.dtype == np.float32 for tensor in tensors)
    for kernel, bias in zip(tensors[0::2], tensors[1::2], strict=True):
        assert not bias.any()
        limit = np.sqrt(6 / (9 * (kernel.shape[2] + kernel.shape[3])))
        assert 0.99 * limit < np.abs(kernel).max() < 1.0001 * limit
        assert abs(kernel.mean()) < 0.05 * limit


def test_written_tensors_are_read_as_they_were(tensors: list[Tensor], tmp_path: Path) -> None:
    write_tensors(tensors, tmp_path / "base.npz")
    assert same(read_tensors(tmp_path / "base.npz"), tensors)


def test_the_digest_depends_on_order_and_values_not_on_memory_layout() -> None:
    kernel = np.arange(12, dtype=np.float32).reshape(3, 4)
    bias = np.ones(4, np.float32)
    digest = tensors_sha256([kernel, bias])
    assert digest == tensors_sha256([np.asfortranarray(kernel), bias])
    assert digest == tensors_sha256([kernel.astype(">f4"), bias])
    assert digest != tensors_sha256([bias, kernel])
    assert digest != tensors_sha256([kernel + 1, bias])
