"""Registered models and MLflow runs, on a SQLite store."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from tests.batch.conftest import Bucket, Run, png
from tests.batch.test_job import save_model
from tests.s3_server import free_port


@pytest.fixture
def registry(tmp_path: Path, stand_in_model: Path) -> MlflowClient:
    """Return a registry in which version 1 of chest-ct is in Production."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    client = MlflowClient(uri, uri)
    client.create_registered_model("chest-ct")
    promote(client, stand_in_model)
    return client


def promote(client: MlflowClient, folder: Path) -> str:
    """Register a model folder as the next version and move Production to it."""
    version = str(client.create_model_version("chest-ct", folder.as_uri()).version)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # stages are deprecated, and used
        client.transition_model_version_stage(
            "chest-ct", version, "Production", archive_existing_versions=True
        )
    client.set_registered_model_alias("chest-ct", "champion", version)
    return version


def test_stage_and_alias_become_the_version_and_the_run_is_linked(
    bucket: Bucket, run_cli: Run, registry: MlflowClient
) -> None:
    bucket.put({f"scans/{n}.png": png(n) for n in range(6)} | {"scans/Doe^Jane.png": b"x"})
    places = (f"s3://{bucket.name}/scans/", f"s3://{bucket.name}/scores/")
    result = run_cli(*places, "--model-uri", "models:/chest-ct/Production")
    assert result.code == 1, result.err
    for word in ("Warning", "deprecated", "INFO", "Doe"):
        assert word not in result.err
    assert set(bucket.table("scores/")["model_uri"].to_pylist()) == {"models:/chest-ct/1"}
    assert re.fullmatch(r"[0-9a-f]{64}", bucket.table("scores/")["model_digest"][0].as_py())
    run = registry.get_run(result.summary["mlflow_run_id"])
    assert run.info.status == "FINISHED"
    assert run.data.params["input"] == places[0]
    assert run.data.params["model_uri"] == "models:/chest-ct/Production"
    assert run.data.metrics["rows"] == 7
    assert run.data.metrics["rows_with_errors"] == 1
    assert run.data.metrics["scans_per_s"] > 0
    assert run.data.tags["model_name"] == "chest-ct"
    assert run.data.tags["model_version"] == "1"
    version = registry.get_model_version("chest-ct", "1")
    assert version.tags["last_batch_scoring_run"] == run.info.run_id
    sample = Path(
        mlflow.artifacts.download_artifacts(f"{run.info.artifact_uri}/errors_sample.json")
    )
    assert "Doe" not in sample.read_text()
    (example,) = json.loads(sample.read_text())
    assert example["part"] == "part-00000.parquet"
    assert example["etag"]


def test_a_new_version_scores_everything_anew_in_the_same_output(
    bucket: Bucket, run_here: Run, registry: MlflowClient, tmp_path: Path
) -> None:
    bucket.put({f"scans/{n}.png": png(n) for n in range(6)})
    places = (f"s3://{bucket.name}/scans/", f"s3://{bucket.name}/scores/")
    arguments = (*places, "--model-uri", "models:/chest-ct/Production", "--no-tracking")
    assert run_here(*arguments).code == 0
    alias = (*places, "--model-uri", "models:/chest-ct@champion", "--no-tracking")
    assert run_here(*alias).summary["objects_read"] == 0, "the alias is the same version"
    second = save_model(
        tmp_path,
        """
        frame = super().predict(context, model_input, params)
        frame["out_of_domain"] = True
        return frame
        """,
    )
    promote(registry, second)
    result = run_here(*arguments)
    assert result.code == 0, result.err
    assert result.summary["objects_read"] == 6
    table = bucket.table("scores/")
    assert table.num_rows == 6
    assert set(table["model_uri"].to_pylist()) == {"models:/chest-ct/2"}
    assert set(table["out_of_domain"].to_pylist()) == {True}
    promote(
        registry,
        save_model(
            tmp_path,
            "\n        frame = super().predict(context, model_input, params)"
            "\n        return frame.drop(columns='p_normal')",
            name="other_classes",
        ),
    )
    refused = run_here(*arguments)
    assert refused.code == 2
    assert "has no column" in refused.err
    assert "p_normal" in refused.err
    assert bucket.table("scores/").equals(table)


def test_tracking_server_that_is_away_is_found_before_any_work(
    bucket: Bucket, run_cli: Run, stand_in_model: Path
) -> None:
    bucket.put({"scans/1.png": png(1)})
    result = run_cli(
        f"s3://{bucket.name}/scans/", f"s3://{bucket.name}/scores/", "--model-uri", stand_in_model,
        MLFLOW_TRACKING_URI=f"http://127.0.0.1:{free_port()}", MLFLOW_HTTP_REQUEST_MAX_RETRIES="0",
    )  # fmt: skip
    assert result.code == 2
    assert "add --no-tracking" in result.err
    assert not bucket.names("scores/")
