"""What a run says of itself: its summary and its parameters."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from batch.summary import NOTICE, Counts, versions

if TYPE_CHECKING:
    from batch.job import Job, Prepared


def summarise(
    prepared: Prepared,
    counts: Counts,
    kept: dict[str, int],
    started: float,
    run_id: str | None,
) -> dict[str, Any]:
    """Return the summary of the whole output and of this run."""
    job, tally = prepared.job, prepared.tally
    errors = sum(counts.errors.values())
    new_rows = tally.rows_scored + tally.rows_failed
    seconds = max(time.monotonic() - tally.started, 1e-9)
    summary = {
        "notice": NOTICE,
        "input": job.input.uri,
        "output": job.output.uri,
        "engine": job.engine,
        "model_uri": prepared.model.uri,
        "model_digest": prepared.model.digest,
        "objects_listed": tally.objects_listed,
        "bytes_listed": tally.bytes_listed,
        "objects_passed_over": tally.objects_passed_over,
        "rows": counts.rows,
        "rows_lost": tally.objects_listed + kept["rows_beyond_limit"] - counts.rows,
        "rows_scored": counts.rows - errors,
        "rows_with_errors": errors,
        "labels": dict(sorted(counts.labels.items())),
        "errors": dict(counts.errors.most_common()),
        "objects_skipped": tally.objects_skipped,
        "objects_read": tally.objects_read,
        "bytes_read": tally.bytes_read,
        "rows_written": new_rows,
        **kept,
        "parts": len(counts.parts),
        "scans_per_s": round(new_rows / seconds, 3),
        "wall_time_s": round(time.monotonic() - started, 3),
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(*(["pyspark"] if job.engine == "spark" else [])),
        "mlflow_run_id": run_id,
    }
    if counts.out_of_domain is not None:
        summary["out_of_domain"] = counts.out_of_domain
    return summary


def parameters(job: Job) -> dict[str, Any]:
    """Return what the MLflow run records as parameters."""
    return {
        "input": job.input.uri,
        "output": job.output.uri,
        "model_uri": job.model_uri,
        "include": ", ".join(job.selection.include) or None,
        "exclude": ", ".join(job.selection.exclude) or None,
        "limit": job.selection.limit,
        "inventory": job.inventory,
        "format": job.format,
        "batch_size": job.pace.batch_size,
        "workers": job.pace.workers,
        "no_sign_request": job.access.no_sign_request,
        "retry_failed": job.retry_failed,
        "engine": job.engine,
        "master": job.master,
    }
