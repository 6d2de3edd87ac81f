"""What the run of the whole pipeline shows: parameters, scans, the model, its headline scores."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlflow

from scans.sources import redacted
from steps.headline import headline
from steps.parameters import Section
from steps.settings import changed
from steps.tracking import (
    link_model,
    log_headline,
    log_params,
    log_scans,
    logged_model,
    run_name,
)

SCORES = Path("scores.json")
DATA = Path("artifacts", "data_ingestion")
MODEL = Path("artifacts", "training", "model")
REPORT = Path("artifacts", "evaluation", "report.html")
NOTE = "mlflow.note.content"  # tag that MLflow's page shows as the run's description


def name_of(settings: Sequence[Section]) -> str:
    """Name the run by its source and by the parameters that differ from their defaults."""
    differing: dict[str, Any] = {}
    for section in settings:
        differing |= changed(section)
    return run_name("main", _flat(settings)["source"], differing)


def log_settings(settings: Sequence[Section]) -> None:
    """Log every stage's parameters to the active run; a name of several stages once, if equal."""
    log_params(_flat(settings))


def _flat(settings: Sequence[Section]) -> dict[str, Any]:
    by_name: dict[str, dict[str, Any]] = defaultdict(dict)
    for section in settings:
        for name, value in section.model_dump(by_alias=True).items():
            by_name[name][section.section] = value
    flat: dict[str, Any] = {}
    for name, values in by_name.items():
        if len(set(map(str, values.values()))) == 1:
            flat[name] = next(iter(values.values()))
        else:
            flat |= {f"{section}.{name}": value for section, value in values.items()}
    return flat | {"source": redacted(flat["source"])}


def record_pipeline(run: mlflow.ActiveRun) -> None:
    """Log what the stages left to the active run, whether they ran now or had not changed."""
    scores = json.loads(SCORES.read_text(encoding="utf-8"))
    log_scans(DATA)
    model = logged_model(MODEL, run, scores["model_digest"])
    link_model(run.info.run_id, model, made=True)
    log_headline(scores, DATA, model, again=True)
    mlflow.set_tag(NOTE, f"```\n{headline(SCORES)}\n```")
    mlflow.log_artifact(str(SCORES))
    if REPORT.is_file():
        mlflow.log_artifact(str(REPORT))
