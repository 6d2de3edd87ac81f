"""What a run reports: the whole output, then what this run did."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from batch.progress import RunState
from batch.pyfunc import PinnedModel
from batch.series.finish import SeriesOutcome
from batch.settings import JobSettings
from batch.summary import NOTICE, TableCounts, versions


def summarise(
    settings: JobSettings,
    model: PinnedModel,
    counts: TableCounts,
    kept: dict[str, int],
    series: SeriesOutcome,
    run: RunState,
    run_id: str | None,
) -> dict[str, Any]:
    """Return the summary of the whole output and of this run.

    Args:
        kept: rows removed, and rows beyond `--limit`.
        run_id: of the MLflow run.
    """
    seconds = max(time.monotonic() - run.scoring_since, 1e-9)
    return {
        "notice": NOTICE,
        "input": settings.input.uri,
        "output": settings.output.uri,
        "engine": settings.engine,
        "model_uri": model.uri,
        "model_digest": model.digest,
        "objects_listed": run.objects_listed,
        "bytes_listed": run.bytes_listed,
        "objects_passed_over": run.objects_passed_over,
        "rows": counts.rows,
        "rows_lost": run.objects_listed + kept["rows_beyond_limit"] - counts.rows,
        "rows_scored": counts.rows - counts.failed,
        "rows_with_errors": counts.failed,
        "answered": counts.answered,
        "undecided": counts.undecided,
        "out_of_domain": counts.out_of_domain,
        "failed": counts.failed,
        "labels": dict(sorted(counts.labels.items())),
        "errors": dict(counts.errors.most_common()),
        "parts": len(counts.parts),
        **_of_series(series),
        # This run.
        "objects_skipped": run.objects_skipped,
        "objects_read": run.objects_read,
        "bytes_read": run.bytes_read,
        "rows_written": run.rows_written,
        **kept,
        "scans_per_s": round(run.rows_written / seconds, 3) if run.rows_written else None,
        "series_time_s": round(run.series_s, 3),
        "wall_time_s": round(time.monotonic() - run.started, 3),
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(*(["pyspark"] if settings.engine == "spark" else [])),
        "mlflow_run_id": run_id,
    }


def _of_series(outcome: SeriesOutcome) -> dict[str, int | None]:
    """Return what the summary says of series; nulls where there is no series table."""
    counts, record = outcome.counts, outcome.record
    return {
        "series": counts.rows if counts else None,
        "series_answered": counts.answered if counts else None,
        "series_undecided": counts.undecided if counts else None,
        "series_failed": counts.failed if counts else None,
        "slices_without_series": record.without_series if record else None,
    }


def facts_of(summary: dict[str, Any]) -> dict[str, Any]:
    """Return the numbers of a summary that a program wants in the log's last line."""
    names = ("rows", "rows_written", "answered", "undecided", "out_of_domain", "failed", "series")
    return {
        "objects": summary["objects_listed"],
        **{name: summary[name] for name in names},
        "duration_s": summary["wall_time_s"],
        "model_digest": summary["model_digest"],
    }


def last_line(summary: dict[str, Any]) -> str:
    """Return one line for a person: what this run did, and what the output holds now."""
    if summary["rows_written"]:
        did = f"{summary['rows_written']} rows written in {summary['wall_time_s']:.0f} s"
    else:
        did = "Nothing new: every object had a row for this content by this model"
    holds = ", ".join(
        f"{summary[name]} {name.replace('_', ' ')}"
        for name in ("answered", "undecided", "out_of_domain", "failed")
    )
    line = f"{did}. The output holds {summary['rows']} rows: {holds}."
    if summary["series"] is None:
        return line
    of_series = ", ".join(
        f"{summary[f'series_{name}']} {name}" for name in ("answered", "undecided", "failed")
    )
    return f"{line[:-1]}; {summary['series']} series: {of_series}."
