"""An external evaluation as one self-contained HTML page, internal scores beside the external."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow

from scans.sources import redacted
from steps.evaluation.facts import now
from steps.evaluation.report import page
from steps.headline_metrics import at

TEMPLATE = Path(__file__).with_name("external.html.j2")


def write_external_report(
    folder: Path, external: Mapping[str, Any], internal: Mapping[str, Any] | None, source: str = ""
) -> None:
    """Write report.html.

    Args:
        folder: to write into.
        external: of steps.evaluation.external.
        internal: scores.json of the model's own evaluation; None where it is not known.
        source: where the scans come from.
    """
    run = mlflow.active_run()
    text = page(
        TEMPLATE,
        external={"series": None} | dict(external),
        internal=_own_scores(internal),
        evaluated_at=now(),
        source=redacted(source),
        run_id=run.info.run_id if run else None,
    )
    (folder / "report.html").write_text(text, encoding="utf-8")


def _own_scores(scores: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return what the page shows of the model's own scores; None where an older one lacks it."""
    if not scores:
        return None
    shown: dict[str, Any] = {
        name: {"value": at(scores, name), "ci95": at(scores, f"{name}_ci95")}
        for name in ("roc_auc", "balanced_accuracy")
    }
    shown |= {
        name: {"value": at(scores, f"{name}.value"), "ci95": at(scores, f"{name}.ci95")}
        for name in ("sensitivity", "specificity")
    }
    return shown | {"out_of_domain": at(scores, "out_of_domain.test_scans_flagged")}
