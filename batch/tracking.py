"""The job as an MLflow run, linked to the model version it used."""

from __future__ import annotations

import os
from typing import Any

from batch.faults import CannotRunError, without_passwords
from batch.pyfunc import PinnedModel, quiet_mlflow
from batch.summary import Counts

EXPERIMENT = "batch_scoring"


class TrackedRun:
    """One MLflow run. After it has begun, a tracking server that fails costs a warning only."""

    def __init__(self, parameters: dict[str, Any], model: PinnedModel) -> None:
        """Start the run (or continue the one `mlflow run` has made) and log parameters.

        Raises:
            CannotRunError: the tracking server cannot be used.
        """
        import mlflow

        self.problem: str | None = None
        with quiet_mlflow():
            try:
                if not {"MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"} & set(
                    os.environ
                ):
                    mlflow.set_experiment(EXPERIMENT)
                run = mlflow.start_run()
                self.run_id: str = run.info.run_id
                # `mlflow run` has logged its own, as shell words; a parameter cannot be changed.
                there = run.data.params
                mlflow.log_params(
                    {k: v for k, v in parameters.items() if v is not None and k not in there}
                )
                mlflow.set_tags({"model_uri": model.uri, "model_digest": model.digest})
                self._link(model)
            except Exception as error:  # each store and server raises its own
                raise CannotRunError(
                    f"The MLflow tracking server cannot be used ({_one_line(error)}). Check "
                    "MLFLOW_TRACKING_URI and its credentials, or add --no-tracking."
                ) from error

    def _link(self, model: PinnedModel) -> None:
        import mlflow
        from mlflow.entities import LoggedModelInput

        if model.name is None or model.version is None:
            return
        client = mlflow.MlflowClient()
        mlflow.set_tags({"model_name": model.name, "model_version": model.version})
        logged = client.get_model_version(model.name, model.version).model_id
        if logged:
            client.log_inputs(self.run_id, models=[LoggedModelInput(model_id=logged)])
        client.set_model_version_tag(
            model.name, model.version, "last_batch_scoring_run", self.run_id
        )

    def end(self, summary: dict[str, Any] | None, counts: Counts | None, finished: bool) -> None:
        """Log what came out and end the run; keep in `problem` why that did not work."""
        import mlflow

        with quiet_mlflow():
            try:
                if summary is not None and counts is not None:
                    mlflow.log_metrics(metrics_of(summary))
                    mlflow.log_dict(summary, "summary.json")
                    mlflow.log_dict(counts.sample, "errors_sample.json")
            except Exception as error:  # each store and server raises its own
                self.problem = _one_line(error)
            try:
                mlflow.end_run("FINISHED" if finished else "KILLED")
            except Exception as error:  # each store and server raises its own
                self.problem = _one_line(error)


def metrics_of(summary: dict[str, Any]) -> dict[str, float]:
    """Return the summary's numbers under MLflow metric names."""
    names = (
        "objects_listed",
        "rows",
        "rows_scored",
        "rows_with_errors",
        "rows_lost",
        "objects_read",
        "bytes_read",
        "wall_time_s",
        "scans_per_s",
    )
    metrics = {name: float(summary[name]) for name in names}
    for label, number in summary["labels"].items():
        metrics[f"label_{''.join(c if c.isalnum() else '_' for c in label)}"] = float(number)
    return metrics


def _one_line(error: Exception) -> str:
    return without_passwords(" ".join(str(error).split()))[:200].rstrip(".")
