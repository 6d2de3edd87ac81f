"""The last blocks of VGG16, cut off, trained and put to use."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import keras
import numpy as np
import pytest

from model.keras_network import build_base, last_blocks
from model.network import export
from model.runtime import Runtime
from model.tensors import Tensor, random_tensors, read_tensors
from steps.training.fine_tuning import FineTuning
from tests.model.tiny import Tiny, train_tiny

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)


@pytest.fixture(scope="module")
def tensors() -> list[Tensor]:
    return random_tensors(seed=0)


@pytest.mark.parametrize(("blocks", "feature_blocks"), [(1, 1), (2, 1), (5, 1), (1, 2), (2, 2)])
def test_the_two_halves_of_the_base_are_the_base(
    tensors: list[Tensor], blocks: int, feature_blocks: int, tmp_path: Path
) -> None:
    base = build_base(tensors, 32, feature_blocks)
    upper = last_blocks(base, blocks, feature_blocks)
    names = {layer.name.split("_")[0] for layer in upper.layers if layer.name.startswith("block")}
    assert names == {f"block{number}" for number in range(6 - blocks, 6)}
    export(tensors, 32, tmp_path / "lower.xml", "f32", blocks=5 - blocks)
    lower = Runtime(tmp_path / "lower.xml", "f32")
    np.testing.assert_allclose(upper(lower(PIXELS)), base(PIXELS), rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def fine_tuned(tiny_pipeline: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    output = tmp_path_factory.mktemp("fine_tuned") / "trained"
    settings = FineTuning(blocks=1, epochs=2, learning_rate=1e-3, batch_size=16)
    train_tiny(tiny_pipeline, output, fine_tuning=settings)
    return dataclasses.replace(tiny_pipeline, trained=output)


def test_the_last_block_changes_and_the_others_do_not(
    tiny_pipeline: Tiny, fine_tuned: Tiny
) -> None:
    before = keras.models.load_model(tiny_pipeline.trained / "model.keras")
    after = keras.models.load_model(fine_tuned.trained / "model.keras")
    for layer in before.layers:
        if not layer.name.startswith("block") or not layer.weights:
            continue
        pairs = zip(layer.get_weights(), after.get_layer(layer.name).get_weights(), strict=True)
        same = all(np.array_equal(old, new) for old, new in pairs)
        assert same == (not layer.name.startswith("block5")), layer.name


def test_the_pyfunc_carries_the_changed_network_at_the_same_precision(
    tiny_pipeline: Tiny, fine_tuned: Tiny
) -> None:
    networks = [
        (tiny.model / "artifacts" / "network" / "network.bin").read_bytes()
        for tiny in (tiny_pipeline, fine_tuned)
    ]
    assert networks[0] != networks[1]
    assert len(networks[1]) == pytest.approx(len(networks[0]), rel=0.01)  # both int8
    record = json.loads((fine_tuned.trained / "training.json").read_text())
    assert record["fine_tuned_blocks"] == 1


def test_the_prepared_base_is_left_as_it_was(tiny_pipeline: Tiny, fine_tuned: Tiny) -> None:
    frozen = build_base(read_tensors(tiny_pipeline.prepared / "base.npz"), 32)
    trained = keras.models.load_model(tiny_pipeline.trained / "model.keras")
    for name in ("block5_conv1", "block5_conv3"):
        for old, new in zip(
            frozen.get_layer(name).get_weights(), trained.get_layer(name).get_weights(), strict=True
        ):
            np.testing.assert_array_equal(old, new)
