"""What is kept of an evaluation in MLflow: in its run, with the model, and in the registry."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow

from scans.manifest import MANIFEST
from steps.parameters import Evaluation
from steps.registry.register import register
from steps.tracking import git_commit, link_model, log_headline, logged_model


def record(
    run: mlflow.ActiveRun,
    scores: Mapping[str, Any],
    settings: Evaluation,
    *,
    data: Path,
    trained: Path,
    output: Path,
    scores_path: Path,
) -> int | None:
    """Log an evaluation to its run, and register the model where that is asked for.

    The dozen headline metrics are the run's, and the model's on the test split. All other numbers
    are in scores.json and in the report.

    Args:
        run: of the evaluation.
        scores: contents of scores.json.
        settings: of the evaluation.
        data: what data_ingestion wrote.
        trained: what training wrote.
        output: what the evaluation wrote.
        scores_path: scores.json.

    Returns:
        The number of the registered version; None where none was asked for.
    """
    model = logged_model(trained / "model", run, scores["model_digest"])
    link_model(run.info.run_id, model, made=False)
    log_headline(scores, data, model)
    mlflow.log_artifact(str(scores_path))
    mlflow.log_artifacts(str(output), "evaluation")
    if not settings.register_model:
        return None
    return register(
        trained / "model",
        name=settings.registered_model_name,
        scores=scores,
        manifest=data / MANIFEST,
        git_commit=git_commit(),
        dvc_lock=Path("dvc.lock"),
        model_id=model,
    )
