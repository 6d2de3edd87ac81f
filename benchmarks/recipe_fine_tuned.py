"""Recipes whose last block is trained as well: for benchmarks/recipe.py.

Block 5 and a head are trained on one collection for a number of epochs that was fixed beforehand,
on the default's pixels, in full precision, from the default's head on the untrained block. Scored
are the trained network, and heads fitted on the features of the trained block. What each training
gave is kept.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.recipe_heads import Linear, discriminant, logistic
from benchmarks.recipe_judge import Judge
from benchmarks.recipe_pixels import pixels
from benchmarks.recipe_scans import DIRECTIONS, Scan
from benchmarks.recipe_table import SERVED_HEAD, SERVED_PIXELS
from model.features import feature_vectors
from model.keras_network import build_base, build_head, last_blocks, pooled_features
from model.network import export
from model.runtime import Runtime
from model.tensors import BLOCKS, Tensor
from steps.tensorflow_quietly import import_quietly
from steps.training.head import class_weights

EPOCHS = 5  # as training.fine_tune_epochs has it
# Rates of Adam and whose scans train: 0 leaves block 5 as it was, the next is the default of
# training.fine_tune_learning_rate, and the last lost on the smaller pair of collections.
TRAINED_ON = {0.0: ("zip", "iq", "kaggle"), 1e-5: ("zip", "iq", "kaggle"), 1e-4: ("zip", "iq")}
BATCH = 16
HEADS = {
    SERVED_HEAD: logistic(30.0, shrinkage=0.92),
    "shrunk LDA 0.98": discriminant(0.98),
}
OWN_HEAD = "trained with the block"

Scored = tuple[NDArray[np.float32], NDArray[np.float32]]  # features and scores of all scans


def fine_tuned_rows(
    scans: Sequence[Scan], judge: Judge, tensors: Sequence[Tensor], cache: Path
) -> list[dict[str, Any]]:
    """Train block 5 on one collection, score the others.

    Args:
        scans: of all collections, as the judge has them.
        judge: of the same scans.
        tensors: of VGG16.
        cache: keeps the maps of block 4 and the features of each training.

    Returns:
        By rate and head: areas and intervals of the directions that start from TRAINED_ON, and
        changed labels of paired kernels.
    """
    maps = _block4(scans, tensors, cache)
    rows = []
    for rate, sources in TRAINED_ON.items():
        by_source = {s: _known(s, rate, judge, tensors, maps, cache) for s in sources}
        name = f"trained, rate {rate:g}, {EPOCHS} epochs" if rate else "untrained"
        for head in (*HEADS, OWN_HEAD) if rate else HEADS:
            row: dict[str, Any] = {"name": name, "head": head, "auc": {}, "kernel_changes": {}}
            for place, direction in enumerate(DIRECTIONS):
                source = direction.split(" ")[0]
                if source in by_source:
                    score = _score(place, head, judge, by_source[source])
                    row["auc"][direction] = judge.area_of(place, score)
                    row["kernel_changes"][direction] = judge.kernel_changes(score)
            rows.append(row)
            areas = {key: round(value["auc"], 3) for key, value in row["auc"].items()}
            click.echo(f"block 5 {name} | {head}: {areas}", err=True)
    return rows


def _score(place: int, head: str, judge: Judge, scored: Scored) -> NDArray[np.floating[Any]]:
    features, own = scored
    if head == OWN_HEAD:
        return own
    weights, bias = HEADS[head](judge.training(judge.pairs[place][0], features))
    return features.astype(np.float64) @ weights + bias


def _block4(scans: Sequence[Scan], tensors: Sequence[Tensor], cache: Path) -> NDArray[np.float16]:
    """Return the maps that block 5 sees (scans, side / 16, side / 16, 512)."""
    path = cache / f"block4-{SERVED_PIXELS.name}-{len(scans)}.npy"
    if path.is_file():
        kept: NDArray[np.float16] = np.load(path, mmap_mode="r")
        return kept
    with tempfile.TemporaryDirectory() as scratch:
        network = Path(scratch) / "lower.xml"
        export(tensors, SERVED_PIXELS.side, network, "f32", blocks=len(BLOCKS) - 1)
        runtime = Runtime(network, "f32")
        parts = []
        for some in _batches(len(scans), "block 4"):
            batch = [pixels(scan.grey, SERVED_PIXELS) for scan in scans[some]]
            parts.append(runtime(np.stack(batch)).astype(np.float16))
    maps = np.concatenate(parts)
    np.save(path, maps)
    return maps


def _known(
    source: str,
    rate: float,
    judge: Judge,
    tensors: Sequence[Tensor],
    maps: NDArray[np.float16],
    cache: Path,
) -> Scored:
    """Train on a collection, or read what that gave."""
    name = f"{source}-{rate:g}-{EPOCHS}" if rate else "untrained"
    path = cache / f"block5-{SERVED_PIXELS.name}-{len(maps)}-{name}.npz"
    if not path.is_file():
        place = next(i for i, known in enumerate(DIRECTIONS) if known.startswith(f"{source} to"))
        train = judge.pairs[place][0]
        start = _known(source, 0.0, judge, tensors, maps, cache)[0] if rate else None
        head = HEADS[SERVED_HEAD](judge.training(train, start)) if start is not None else None
        features, own = _trained(train, judge.sick, head, rate, tensors, maps)
        np.savez(path, features=features, own=own)
    with np.load(path) as kept:
        return kept["features"], kept["own"]


def _trained(
    train: NDArray[np.bool_],
    sick: NDArray[np.int64],
    head: Linear | None,
    rate: float,
    tensors: Sequence[Tensor],
    maps: NDArray[np.float16],
) -> Scored:
    """Train block 5 and the head on some scans, and read every scan's features and score.

    Args:
        train: which scans, (n,).
        sick: of all scans, (n,).
        head: to start from; None where nothing is trained.
        rate: of Adam; 0 trains nothing.
        tensors: of VGG16.
        maps: of block 4, (n, height, width, 512).
    """
    import_quietly()
    import keras

    keras.utils.set_random_seed(0)
    upper = last_blocks(build_base(tensors, SERVED_PIXELS.side), 1)
    vectors = pooled_features(upper.output)
    dense = build_head(vectors.shape[-1], 2)
    if head is not None:
        weights, bias = head
        kernel = np.stack([-weights / 2, weights / 2], axis=1).astype(np.float32)
        dense.set_weights([kernel, np.array([-bias / 2, bias / 2], np.float32)])
    network = keras.Model(upper.input, dense(vectors))
    if rate:
        for layer in upper.layers:
            layer.trainable = True
        network.compile(
            keras.optimizers.Adam(rate),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        weight = np.vectorize(class_weights(sick[train]).get)(sick[train]).astype(np.float32)
        fitted = network.fit(
            np.asarray(maps[train], dtype=np.float32), sick[train], sample_weight=weight,
            batch_size=BATCH, epochs=EPOCHS, verbose=0,
        )  # fmt: skip
        click.echo(f"rate {rate:g}, loss by epoch {fitted.history['loss']}", err=True)
    block = keras.Model(upper.input, upper.output)
    features = np.concatenate(
        [
            feature_vectors(np.asarray(block.predict_on_batch(maps[some].astype(np.float32))))
            for some in _batches(len(maps), "block 5")
        ]
    )
    kernel, bias = (np.asarray(values) for values in dense.get_weights())
    logits = features @ kernel + bias
    return features, logits[:, 1] - logits[:, 0]


def _batches(count: int, label: str) -> Iterable[slice]:
    starts = range(0, count, BATCH)
    with click.progressbar(starts, label=label, file=sys.stderr) as bar:
        for start in bar:
            yield slice(start, start + BATCH)
