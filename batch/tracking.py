"""The job as an MLflow run, linked to the model version it used."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

from batch.faults import CannotRunError, without_passwords
from batch.progress import log
from batch.pyfunc import PinnedModel, quiet_mlflow
from batch.settings import JobSettings
from batch.summary import TableCounts

STAGE = "batch_scoring"  # tag `stage`, as the pipeline's runs have it
MAX_NAME = 120  # characters of a run's name


class NoRun:
    """What takes the place of an MLflow run with `--no-tracking`."""

    run_id: str | None = None

    def log_results(self, summary: dict[str, Any], counts: TableCounts) -> None:
        """Record nothing."""


class TrackedRun(NoRun):
    """One MLflow run. After it has begun, a tracking server that fails costs a warning only."""

    def __init__(self, settings: JobSettings, model: PinnedModel) -> None:
        """Start the run (or continue the one `mlflow run` has made) and log parameters.

        Raises:
            CannotRunError: the tracking server cannot be used.
        """
        import mlflow

        from logs.experiment import started_run

        with quiet_mlflow():
            try:
                run = started_run(f"{STAGE} · {settings.input.uri}"[:MAX_NAME])
                self.run_id = run.info.run_id
                # `mlflow run` has logged its own, as shell words; a parameter cannot be changed.
                there = mlflow.get_run(run.info.run_id).data.params
                given = {k: v for k, v in settings.parameters().items() if v is not None}
                mlflow.log_params({k: v for k, v in given.items() if k not in there})
                of_model = {"model_uri": model.uri, "model_digest": model.digest}
                mlflow.set_tags({"stage": STAGE} | of_model)
                self._link(run.info.run_id, model)
            except Exception as error:  # each store and server raises its own
                raise CannotRunError(
                    f"The MLflow tracking server cannot be used ({_one_line(error)}). Check "
                    "MLFLOW_TRACKING_URI and its credentials, or add --no-tracking."
                ) from error

    @staticmethod
    def _link(run_id: str, model: PinnedModel) -> None:
        import mlflow
        from mlflow.entities import LoggedModelInput

        if model.name is None or model.version is None:
            return
        client = mlflow.MlflowClient()
        mlflow.set_tags({"model_name": model.name, "model_version": model.version})
        logged = client.get_model_version(model.name, model.version).model_id
        if logged:
            client.log_inputs(run_id, models=[LoggedModelInput(model_id=logged)])
        client.set_model_version_tag(model.name, model.version, "last_batch_scoring_run", run_id)

    def log_results(self, summary: dict[str, Any], counts: TableCounts) -> None:
        """Log what came out."""
        import mlflow

        with _warn_only():
            mlflow.log_metrics(metrics_of(summary))
            mlflow.log_dict(summary, "summary.json")
            mlflow.log_dict(counts.sample, "errors_sample.json")

    def end(self, status: str) -> None:
        """End the run: FINISHED or KILLED."""
        import mlflow

        with _warn_only():
            mlflow.end_run(status)


@contextlib.contextmanager
def tracked_run(settings: JobSettings, model: PinnedModel) -> Iterator[NoRun]:
    """Have an MLflow run, if wanted, which ends as KILLED unless the block finishes."""
    if not settings.tracking:
        yield NoRun()
        return
    tracked = TrackedRun(settings, model)
    status = "KILLED"
    try:
        yield tracked
        status = "FINISHED"
    finally:
        tracked.end(status)


@contextlib.contextmanager
def _warn_only() -> Iterator[None]:
    """Turn whatever the tracking server raises into a warning: the rows are there without it."""
    with quiet_mlflow():
        try:
            yield
        except Exception as error:  # each store and server raises its own
            log(f"the MLflow run is incomplete ({_one_line(error)}).", logging.WARNING)


def metrics_of(summary: dict[str, Any]) -> dict[str, float]:
    """Return the summary's numbers under MLflow metric names."""
    names = (
        "objects_listed",
        "rows",
        "rows_scored",
        "rows_with_errors",
        "rows_lost",
        "answered",
        "undecided",
        "out_of_domain",
        "failed",
        "series",
        "series_answered",
        "series_undecided",
        "series_failed",
        "objects_read",
        "bytes_read",
        "wall_time_s",
        "scans_per_s",
    )
    metrics = {name: float(summary[name]) for name in names if summary[name] is not None}
    for label, number in summary["labels"].items():
        metrics[f"label_{''.join(c if c.isalnum() else '_' for c in label)}"] = float(number)
    return metrics


def _one_line(error: Exception) -> str:
    return without_passwords(" ".join(str(error).split()))[:200].rstrip(".")
