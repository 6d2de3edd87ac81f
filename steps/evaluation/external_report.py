"""An external evaluation as one self-contained HTML page, internal scores beside the external."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow

from scans.sources import redacted
from steps.evaluation.facts import now
from steps.evaluation.report import page

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
        internal=internal,
        evaluated_at=now(),
        source=redacted(source),
        run_id=run.info.run_id if run else None,
    )
    (folder / "report.html").write_text(text, encoding="utf-8")
