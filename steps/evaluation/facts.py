"""When, by what and on which scans an evaluation was made: the first lines of its report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mlflow

from scans.manifest import read_summary
from steps.tracking import git_commit

FACTS = "facts.json"


def now() -> str:
    """Return the present time for a reader of a report."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def write_facts(folder: Path, data: Path, scores: Mapping[str, Any]) -> None:
    """Write facts.json beside the report.

    Args:
        folder: of the evaluation.
        data: what data_ingestion wrote.
        scores: of the evaluation, with the digest of the model.
    """
    summary = read_summary(data)
    run = mlflow.active_run()
    facts = {
        "evaluated_at": now(),
        "run_id": run.info.run_id if run else None,
        "run_name": run.info.run_name if run else None,
        "code": git_commit(),
        "model_digest": scores["model_digest"],
        "data_digest": summary["data_digest"],
        "source": summary.get("source"),  # without secrets, see scans.sources.redacted
        "distinct": summary.get("distinct"),
        "groups": summary.get("groups"),
        "splits": summary.get("splits"),
    }
    (folder / FACTS).write_text(
        json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )


def read_facts(folder: Path) -> dict[str, Any] | None:
    """Return what `write_facts` wrote; None for an evaluation of an older version."""
    path = folder / FACTS
    if not path.is_file():
        return None
    facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return facts
