"""Recipes whose last block is trained as well: for benchmarks/recipe.py."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.recipe_heads import discriminant, logistic
from benchmarks.recipe_judge import Judge
from benchmarks.recipe_pixels import Variant, pixels
from benchmarks.recipe_scans import DIRECTIONS, JUDGED, Scan
from model.features import feature_vectors
from model.keras_network import build_base, build_head, last_blocks, pooled_features
from model.network import export
from model.runtime import Runtime
from model.tensors import BLOCKS, Tensor
from steps.tensorflow_quietly import import_quietly
from steps.training.head import class_weights

EPOCHS = (2, 5)  # after which the network is judged
LEARNING_RATE = 1e-5  # of Adam, as training.fine_tune_learning_rate has it
BATCH = 16
DIRECTIONS_TRIED = 2  # zip to iq and back: training on the larger collection takes an hour
HEADS = {
    "whitened 0.95, L2 30": logistic(30.0, shrinkage=0.95),
    "shrunk LDA 0.98": discriminant(0.98),
}


def fine_tuned_areas(
    scans: Sequence[Scan], judge: Judge, tensors: Sequence[Tensor], cache: Path
) -> list[dict[str, Any]]:
    """Train block 5 on one collection, score the other, in full precision.

    Args:
        scans: of all collections, as the judge has them.
        judge: of the same scans.
        tensors: of VGG16.
        cache: keeps the maps of block 4.

    Returns:
        By direction, epochs and features: areas of the network's own head and of HEADS fitted on
        its features.
    """
    maps = _block4(scans, tensors, cache)
    return [
        row for place in range(DIRECTIONS_TRIED) for row in _direction(place, judge, tensors, maps)
    ]


def _block4(scans: Sequence[Scan], tensors: Sequence[Tensor], cache: Path) -> NDArray[np.float16]:
    path = cache / "block4-float16.npy"
    if path.is_file():
        kept: NDArray[np.float16] = np.load(path, mmap_mode="r")
        return kept
    side = Variant().side
    with tempfile.TemporaryDirectory() as scratch:
        network = Path(scratch) / "lower.xml"
        export(tensors, side, network, "f32", blocks=len(BLOCKS) - 1)
        runtime = Runtime(network, "f32")
        parts = []
        starts = range(0, len(scans), BATCH)
        with click.progressbar(
            starts, label="block 4", file=click.get_text_stream("stderr")
        ) as bar:
            for start in bar:
                batch = [pixels(s.grey, Variant()) for s in scans[start : start + BATCH]]
                parts.append(runtime(np.stack(batch)).astype(np.float16))
    maps = np.concatenate(parts)
    np.save(path, maps)
    return maps


def _direction(
    place: int, judge: Judge, tensors: Sequence[Tensor], maps: NDArray[np.float16]
) -> list[dict[str, Any]]:
    """Train on one direction's scans and judge as the epochs go by."""
    import_quietly()
    import keras

    keras.utils.set_random_seed(0)
    train = judge.pairs[place][0]
    needed = np.flatnonzero(np.isin(judge.source, [n for n in JUDGED if n != "others"]))
    upper = last_blocks(build_base(tensors, Variant().side), 1)
    for layer in upper.layers:
        layer.trainable = True
    vectors = pooled_features(upper.output)
    network = keras.Model(upper.input, build_head(vectors.shape[-1], 2)(vectors))
    network.compile(
        keras.optimizers.Adam(LEARNING_RATE),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    reader = keras.Model(upper.input, [network.output, vectors])
    sick = judge.sick[train]
    weight = np.vectorize(class_weights(sick).get)(sick).astype(np.float32)
    rows, done = [], 0
    block4 = feature_vectors(np.asarray(maps, dtype=np.float32))
    for epochs in EPOCHS:
        network.fit(
            np.asarray(maps[train], dtype=np.float32), sick, sample_weight=weight,
            batch_size=BATCH, epochs=epochs - done, verbose=0,
        )  # fmt: skip
        done = epochs
        own = np.zeros((len(maps), vectors.shape[-1]), np.float32)
        logits = np.zeros((len(maps), 2), np.float32)
        for start in range(0, len(needed), BATCH):
            some = needed[start : start + BATCH]
            answers = reader.predict_on_batch(np.asarray(maps[some], dtype=np.float32))
            logits[some], own[some] = (np.asarray(answer) for answer in answers)
        for name, features in {
            "root5": own, "root4+root5": np.concatenate([block4, own], axis=1)
        }.items():  # fmt: skip
            areas = {}
            for head, fit in HEADS.items():
                weights, bias = fit(judge.training(train, features))
                areas[head] = judge.area_of(place, features.astype(np.float64) @ weights + bias)
            areas["its own head"] = judge.area_of(place, (logits[:, 1] - logits[:, 0]))
            rows.append(
                {
                    "direction": DIRECTIONS[place], "epochs": epochs, "features": name,
                    "auc": areas,
                }
            )  # fmt: skip
            click.echo(f"fine-tuned {rows[-1]}", err=True)
    return rows
