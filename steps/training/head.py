"""Training the head in Keras, on features."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.artefact import Head
from steps.training.whitening import whitening


@dataclasses.dataclass(frozen=True)
class HeadSettings:
    """How the head is trained."""

    epochs: int
    batch_size: int
    steps_per_epoch: int  # 0: as many as there are batches
    learning_rate: float  # of Adam at the first step; falls to 0 along a cosine
    l2: float  # times the sum of squared kernel entries, added to the loss
    dropout: float  # fraction of the features, 0 to below 1
    balanced_classes: bool  # weigh each class by 1 / its share of the scans
    patience: int  # epochs without a better validation loss before training stops; 0: never
    shrinkage: float = 1.0  # of the covariance within classes, 0-1; see `whitening`


def fit_head(
    start: Any,
    train: tuple[NDArray[np.float32], NDArray[np.int64]],
    validation: tuple[NDArray[np.float32], NDArray[np.int64]] | None,
    settings: HeadSettings,
    seed: int,
) -> tuple[Head, list[dict[str, float]]]:
    """Train a head from where it starts.

    The loss is convex (one dense layer, L2), so there is one best head; a rate that falls to 0
    reaches it. Features are whitened with the training set's own statistics (see `whitening`);
    that step is folded into the kernel and the bias that are returned, so a head is one product.

    Args:
        start: untrained Keras head (see model.keras_network.build_head); is not changed.
        train: features (n, features) and class indices (n,).
        validation: the same; None trains for all epochs.
        settings: see HeadSettings.
        seed: of the order of batches and of dropout. One seed gives one result.

    Returns:
        The head after the last epoch, and a row per epoch: `epoch`,
        `loss`, `accuracy`, `val_loss`, `val_accuracy`.
    """
    import keras

    keras.utils.set_random_seed(seed)
    head = keras.models.clone_model(start)
    head.set_weights(start.get_weights())
    head.get_layer("logits").kernel.regularizer = keras.regularizers.L2(settings.l2)
    features, labels = train
    white = whitening(features, labels, settings.shrinkage)
    network = keras.Sequential(
        [keras.Input(features.shape[1:]), keras.layers.Dropout(settings.dropout), head]
    )
    network.compile(
        optimizer=keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(
                settings.learning_rate, settings.epochs * _steps(len(labels), settings)
            )
        ),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    callbacks = []
    if validation is not None and settings.patience:
        # The last weights stay: of a convex loss they are the best fit, while the validation
        # loss of a few scans is least somewhere on the way (temperature scaling mends that).
        callbacks.append(keras.callbacks.EarlyStopping("val_loss", patience=settings.patience))
    fitted = network.fit(
        _batches(white.apply(features), labels, settings, seed),
        validation_data=validation and (white.apply(validation[0]), validation[1]),
        validation_batch_size=1024,
        epochs=settings.epochs,
        steps_per_epoch=_steps(len(labels), settings),
        class_weight=class_weights(labels) if settings.balanced_classes else None,
        callbacks=callbacks,
        shuffle=False,  # the dataset shuffles itself
        verbose=0,
    )
    history = [
        {"epoch": epoch} | {name: float(values[epoch]) for name, values in fitted.history.items()}
        for epoch in range(len(fitted.epoch))
    ]
    kernel, bias = (np.asarray(tensor) for tensor in head.get_weights())
    return white.folded(kernel, bias), history


def class_weights(labels: NDArray[np.int64]) -> dict[int, float]:
    """Weigh classes so that each counts the same: n / (classes x n of the class)."""
    values, counts = np.unique(labels, return_counts=True)
    return {
        int(value): len(labels) / (len(values) * int(count))
        for value, count in zip(values, counts, strict=True)
    }


def _steps(count: int, settings: HeadSettings) -> int:
    return settings.steps_per_epoch or -(-count // settings.batch_size)


def _batches(
    features: NDArray[np.float32], labels: NDArray[np.int64], settings: HeadSettings, seed: int
) -> Any:
    """Shuffle anew each epoch, without end, so that any number of steps makes an epoch."""
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices((features, labels))
    return (
        dataset.shuffle(len(labels), seed=seed, reshuffle_each_iteration=True)
        .batch(settings.batch_size)
        .repeat()
    )
