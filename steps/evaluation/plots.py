"""Pictures and tables of an evaluation, for MLflow and for `dvc plots`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn import metrics

from model.decision import healthy_index


def write_plots(
    folder: Path,
    actual: NDArray[np.int64],
    predicted: NDArray[np.int64],
    p: NDArray[np.float64],
    classes: Sequence[str],
) -> None:
    """Write confusion_matrix.png and .csv, roc.png and .csv into a folder.

    Args:
        folder: exists.
        actual: class indices (n,).
        predicted: class indices (n,).
        p: probabilities (n, classes).
        classes: names in the order of the indices.
    """
    names = np.array(classes)
    pd.DataFrame({"actual": names[actual], "predicted": names[predicted]}).to_csv(
        folder / "confusion_matrix.csv", index=False
    )
    _confusion_figure(actual, predicted, classes).savefig(folder / "confusion_matrix.png", dpi=120)
    curves = roc_curves(actual, p, classes)
    curves.to_csv(folder / "roc.csv", index=False)
    _roc_figure(curves).savefig(folder / "roc.png", dpi=120)


def roc_curves(
    actual: NDArray[np.int64], p: NDArray[np.float64], classes: Sequence[str]
) -> pd.DataFrame:
    """Return ROC curves as rows of `curve`, `false_positive_rate`, `true_positive_rate`.

    Two classes have one curve, of the disease; more have one per class against the rest.
    """
    if len(classes) == 2:
        disease = 1 - (healthy_index(classes) or 0)
        wanted = [(classes[disease], actual == disease, p[:, disease])]
    else:
        wanted = [(name, actual == i, p[:, i]) for i, name in enumerate(classes)]
    tables = []
    for name, positive_rows, score in wanted:
        if positive_rows.all() or not positive_rows.any():
            continue
        false_rate, true_rate, _ = metrics.roc_curve(positive_rows, score)
        tables.append(
            pd.DataFrame(
                {"curve": name, "false_positive_rate": false_rate, "true_positive_rate": true_rate}
            )
        )
    columns = ["curve", "false_positive_rate", "true_positive_rate"]
    return pd.concat(tables) if tables else pd.DataFrame(columns=columns)


def _confusion_figure(
    actual: NDArray[np.int64], predicted: NDArray[np.int64], classes: Sequence[str]
) -> Figure:
    side = 2.5 + len(classes)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    matrix = metrics.confusion_matrix(actual, predicted, labels=range(len(classes)))
    metrics.ConfusionMatrixDisplay(matrix, display_labels=list(classes)).plot(
        ax=axes, cmap="Blues", colorbar=False, xticks_rotation=30
    )
    axes.set_title(f"Test split, n = {len(actual)}")
    return figure


def _roc_figure(curves: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    for name, curve in curves.groupby("curve"):
        axes.plot(curve["false_positive_rate"], curve["true_positive_rate"], label=name)
    axes.plot([0, 1], [0, 1], linestyle=":", color="grey", label="chance")
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", title="ROC, test split")
    axes.legend(loc="lower right")
    return figure
