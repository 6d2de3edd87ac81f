"""MLflow's LoggedModel: one for each digest, with scores on the scans they were measured on."""

from __future__ import annotations

import json
from pathlib import Path

import mlflow
import pytest
from click.testing import CliRunner
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import ENDPOINT_NOT_FOUND

from scans.manifest import read_manifest
from steps.evaluation.__main__ import main
from steps.headline_metrics import FEW, HEADLINE, headline_metrics
from steps.tracking import logged_model
from tests.model.tiny import Tiny
from tests.steps.promotion_models import variant


def test_a_model_is_logged_once_for_its_digest(
    local_registry: str, textures: Path, tmp_path: Path
) -> None:
    with mlflow.start_run() as run:
        mlflow.log_param("epochs", 3)
        first = logged_model(textures, run)
        again = logged_model(variant(textures, tmp_path / "anew", model_uuid="0" * 32), run)
        other = logged_model(variant(textures, tmp_path / "other", wrong=0.1), run)
    assert first == again != other
    found = mlflow.get_logged_model(str(first))
    assert found.source_run_id == run.info.run_id
    assert found.params == {"epochs": "3"}
    assert found.tags["phantom"] == "false"
    assert mlflow.models.get_model_info(f"models:/{first}").signature is not None


def test_a_server_without_logged_models_gets_artefacts(
    local_registry: str, textures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise MlflowException("no such endpoint", error_code=ENDPOINT_NOT_FOUND)

    with monkeypatch.context() as patched, mlflow.start_run() as run:
        patched.setattr(mlflow.MlflowClient, "search_logged_models", unknown)
        assert logged_model(textures, run) is None
    kept = mlflow.MlflowClient().list_artifacts(run.info.run_id, "model")
    assert "model/MLmodel" in {file.path for file in kept}


def test_an_evaluation_gives_its_run_and_the_model_a_dozen_metrics_on_the_test_split(
    local_registry: str, tiny_pipeline: Tiny, tmp_path: Path
) -> None:
    folders = [
        "--data", str(tiny_pipeline.data), "--trained", str(tiny_pipeline.trained),
        "--output", str(tmp_path / "evaluation"), "--scores", str(tmp_path / "scores.json"),
        "--params", str(tmp_path / "none.yaml"), "--protocol-repeats", "2",
    ]  # fmt: skip
    done = CliRunner().invoke(main, [*folders, "--register", "true"])
    assert done.exit_code == 0, done.output
    version = mlflow.MlflowClient().get_model_version("chest-ct", "1")
    run = mlflow.get_run(str(version.run_id))
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert run.data.metrics == pytest.approx(headline_metrics(scores))
    assert set(run.data.metrics) == set(HEADLINE)
    assert run.info.run_name == "evaluation · phantom · protocol_repeats=2"
    model = mlflow.get_logged_model(str(version.source).removeprefix("models:/"))
    test = [row for row in read_manifest(tiny_pipeline.data) if row.split == "test"]
    (dataset,) = [one.dataset for one in run.inputs.dataset_inputs]
    assert json.loads(dataset.profile)["num_rows"] == len(test)
    assert dataset.name == "test split"
    assert {m.key: m.dataset_digest for m in model.metrics} == dict.fromkeys(
        HEADLINE, dataset.digest
    )
    assert [used.model_id for used in run.inputs.model_inputs] == [model.model_id]
    few = json.loads((tmp_path / "evaluation" / "metrics.json").read_text())
    assert few == {name: run.data.metrics[name] for name in FEW}
    assert "SYNTHETIC" in version.description


def test_what_was_not_measured_is_left_out() -> None:
    assert headline_metrics({"accuracy": 0.5, "roc_auc": None, "sensitivity": None}) == {
        "accuracy": 0.5
    }
