"""A registered version in a folder that an image is built from: model, scores, nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import mlflow
import pytest
from click.testing import CliRunner, Result
from mlflow.models import Model

from serve.model_files import about, fetch
from steps.registry.client import Registry
from steps.registry.fetch import main
from steps.registry.register import register

EXTERNAL = {"n": 316, "groups": 67, "roc_auc": {"value": 0.93, "ci95": [0.86, 0.98]}}


def run(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(main, [str(word) for word in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture
def in_production(local_registry: str, textures: Path, scans: Path, tmp_path: Path) -> str:
    digest = Model.load(str(textures)).metadata["model_digest"]
    scores = {"accuracy": 0.9, "model_digest": digest}
    with mlflow.start_run():
        register(textures, name="fetched", scores=scores, manifest=scans / "manifest.csv")
        mlflow.log_dict(EXTERNAL | {"model": {"model_digest": digest}}, "external/iq/scores.json")
    if not Registry("fetched").read().in_stage("Production"):
        Registry("fetched").set_stage(1, "Production")
    return "models:/fetched/Production"


def test_the_version_and_its_scores_are_what_the_server_shows(
    in_production: str, tmp_path: Path
) -> None:
    folder = tmp_path / "registry" / "model"
    done = run(in_production, folder)
    assert done.exit_code == 0, done.output
    assert done.stdout == "1\n"
    assert "fetched version 1, model digest 000000000000" in done.stderr
    shown = about(fetch(str(folder)), Model.load(str(folder)))
    assert shown["scores"]["accuracy"] == 0.9
    assert shown["external"]["iq"]["roc_auc"] == 0.93
    assert run(in_production, folder).exit_code == 0  # a second time replaces it whole
    assert json.loads((folder / "scores.json").read_text())["accuracy"] == 0.9


def test_what_is_no_version_gets_one_sentence(in_production: str, tmp_path: Path) -> None:
    for uri, sentence in (
        ("models:/fetched/Staging", "No version of fetched is in Staging"),
        ("models:/fetched@trial", "models:/fetched@trial names no version"),
        ("artifacts/training/model", "Expected a registered model"),
    ):
        refused = run(uri, tmp_path / "model")
        assert refused.exit_code == 1
        assert sentence in refused.stderr and len(refused.stderr.splitlines()) == 1
    assert not (tmp_path / "model").exists()
