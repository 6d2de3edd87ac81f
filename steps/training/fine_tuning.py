"""Training the last VGG16 blocks end to end, from the maps at their boundary."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from model.keras_network import last_blocks, pooled_features
from model.network import export
from model.runtime import Runtime
from model.tensors import BLOCKS
from scans.manifest import ManifestRow
from steps.base import Base
from steps.tracking import print_progress
from steps.training.augmentation import Augmentation
from steps.training.features import training_donors, views_of_scan
from steps.training.head import class_weights


@dataclasses.dataclass(frozen=True)
class FineTuning:
    """How the last blocks of VGG16 are trained, if they are."""

    blocks: int  # 0 leaves the whole base frozen, 5 trains all of it
    epochs: int
    learning_rate: float
    batch_size: int  # views in a step; the maps of a step are kept for its gradients


def fine_tune(
    keras_base: Any,
    keras_head: Any,
    data: Path,
    rows: Sequence[ManifestRow],
    base: Base,
    views: Augmentation,
    settings: FineTuning,
    seed: int,
) -> None:
    """Train the last blocks and a head on top of them; changes `keras_base` and `keras_head`.

    The frozen blocks run once per view, in full precision; what they give is kept as float16
    (100-300 KB per view, 600 KB with all five blocks).

    Args:
        keras_base: the full-precision base.
        keras_head: the head to start from.
        data: folder of the manifest.
        rows: training scans.
        base: how pixels reach the network.
        views: augmentation.
        settings: blocks, epochs, learning rate (of Adam; small, the weights are good already).
        seed: of views and order.
    """
    import keras

    keras.utils.set_random_seed(seed)
    upper = last_blocks(keras_base, settings.blocks, base.feature_blocks)
    maps, labels = _boundary_maps(settings.blocks, data, rows, base, views, seed)
    _set_trainable(upper, True)
    network = keras.Model(upper.input, keras_head(pooled_features(upper.output)))
    network.compile(
        optimizer=keras.optimizers.Adam(settings.learning_rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    print_progress(f"fine-tuning the last {settings.blocks} of 5 blocks on {len(labels)} views")
    for epoch in range(settings.epochs):
        done = network.fit(
            maps,
            labels,
            batch_size=settings.batch_size,
            class_weight=class_weights(labels),
            initial_epoch=epoch,
            epochs=epoch + 1,
            verbose=0,
        )
        print_progress(f"  epoch {epoch + 1}: loss {done.history['loss'][0]:.4f}")
    _set_trainable(upper, False)


def _set_trainable(network: Any, trainable: bool) -> None:
    """Freeze or free every layer: a model's own switch does not reach layers that it shares."""
    for layer in network.layers:
        layer.trainable = trainable


def _boundary_maps(
    trainable_blocks: int,
    data: Path,
    rows: Sequence[ManifestRow],
    base: Base,
    views: Augmentation,
    seed: int,
) -> tuple[NDArray[np.float16], NDArray[np.int64]]:
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "frozen_blocks.xml"
        frozen_blocks = len(BLOCKS) - trainable_blocks
        side = base.preprocessing.image_size_px
        export(base.tensors(), side, path, "f32", blocks=frozen_blocks)
        runtime = Runtime(path, "f32")
        donors = training_donors(data, rows)
        maps = [
            runtime(views_of_scan(data, row, base, views, donors, seed)).astype(np.float16)
            for row in tqdm(rows, desc="frozen blocks", unit="scan", mininterval=1)
        ]
    labels = [base.classes.index(row.label) for row in rows for _ in range(1 + views.views)]
    return np.concatenate(maps), np.array(labels, dtype=np.int64)
