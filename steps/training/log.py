"""What training logs to MLflow."""

from __future__ import annotations

import importlib.metadata
import time
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Metric
from mlflow.models import Model

from scans.manifest import read_manifest, read_summary
from steps.mlflow_names import class_tags
from steps.tracking import link_model, log_params, log_scans, logged_model

METRICS_PER_CALL = 1000  # at most, of MLflow's log-batch


def log_inputs(options: dict[str, Any], data: Path) -> None:
    """Log parameters, the environment and the data set, before the work."""
    log_params(options)
    installed = {d.name: d.version for d in importlib.metadata.distributions()}
    frozen = "\n".join(f"{name}=={version}" for name, version in sorted(installed.items()))
    mlflow.log_text(frozen + "\n", "environment.txt")
    summary = read_summary(data)
    phantom = str(summary["phantom"]).lower()
    mlflow.set_tags({"data_digest": summary["data_digest"], "phantom": phantom})
    mlflow.set_tags(class_tags(sorted({row.label for row in read_manifest(data)})))
    log_scans(data)


def log_outputs(history: list[dict[str, float]], output: Path) -> None:
    """Log per-epoch metrics, the learning curve and the model, after the work."""
    run, now_ms = mlflow.active_run(), int(time.time() * 1000)
    metrics = [
        Metric(name, value, now_ms, int(row["epoch"]))
        for row in history
        for name, value in row.items()
        if name != "epoch"
    ]
    for start in range(0, len(metrics), METRICS_PER_CALL):  # one call per epoch takes seconds
        some = metrics[start : start + METRICS_PER_CALL]
        mlflow.MlflowClient().log_batch(run.info.run_id, metrics=some)
    mlflow.log_figure(_learning_curve(history), "learning_curve.png")
    metadata = Model.load(str(output / "model")).metadata or {}
    mlflow.set_tag("model_digest", metadata["model_digest"])
    link_model(run.info.run_id, logged_model(output / "model", run), made=True)


def _learning_curve(history: list[dict[str, float]]) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    epochs = [row["epoch"] for row in history]
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for key, label in ((name, "training"), (f"val_{name}", "validation")):
            if key in history[0]:
                axes.plot(epochs, [row[key] for row in history], label=label)
        axes.set(xlabel="epoch", ylabel=name)
        axes.legend()
    return figure
