"""An evaluated model becomes a version, with all that promotion needs to know; once."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import mlflow
import pytest
import yaml
from mlflow.models import Model

from steps.gates.floor import sensitivity_floor_gate
from steps.registry.client import Registry
from steps.registry.errors import RegistryError
from steps.registry.register import (
    MANIFEST_ARTIFACT,
    SCORES_ARTIFACT,
    lock_digest,
    register,
)
from steps.tracking import logged_model
from tests.steps.promotion_models import variant

SCORES = {
    "accuracy": 0.9,
    "n": 40,
    "roc_auc": None,
    "sensitivity": {"value": 0.85, "ci95": [0.7, 0.93]},
    "phantom": False,
}


def registered(model: Path, scans: Path, name: str, **more: object) -> int:
    with mlflow.start_run():
        return register(model, name=name, scores=SCORES, manifest=scans / "manifest.csv", **more)


def test_a_version_carries_what_it_was_made_from(
    local_registry: str, textures: Path, scans: Path, tmp_path: Path
) -> None:
    lock = tmp_path / "dvc.lock"
    lock.write_text("schema: '2.0'\nstages:\n  training: {cmd: a}\n")
    number = registered(textures, scans, "whole", git_commit="abc", dvc_lock=lock)
    version = Registry("whole").read().versions[number]
    assert version.tags == {
        "model_digest": Model.load(str(textures)).metadata["model_digest"],
        "data_digest": "d1",
        "dvc_lock_digest": lock_digest(lock),
        "git_commit": "abc",
        "phantom": "false",
        "score.accuracy": "0.9",
        "score.n": "40",
        "score.sensitivity.value": "0.85",
        "source_run": version.run_id,
    }
    described = mlflow.MlflowClient().get_model_version("whole", str(number)).description
    assert "not a medical device" in described and "SYNTHETIC" not in described
    assert "| sensitivity | 0.850 (0.700–0.930) |" in described
    assert "Scored on no scans from elsewhere" in described
    info = mlflow.models.get_model_info(f"models:/whole/{number}")
    assert info.signature.inputs.input_names() == ["image"]
    assert info.saved_input_example_info["type"] == "dataframe"
    stored = mlflow.artifacts.load_dict(f"runs:/{version.run_id}/{SCORES_ARTIFACT}")
    assert stored == json.loads(json.dumps(SCORES))


def test_a_version_has_a_dozen_tags_however_many_scores(
    local_registry: str, textures: Path, scans: Path
) -> None:
    rows = {f"change {i}": {"balanced_accuracy": i / 500} for i in range(470)}
    floor = {"stated": 0.95, "upper_bound": 0.97, "value": 0.9, "missed": True,
             "surely_missed": False}  # fmt: skip
    many = SCORES | {"roc_auc": 0.9, "sensitivity_floor": floor, "per_class": rows}
    with mlflow.start_run():
        number = register(textures, name="few", scores=many, manifest=scans / "manifest.csv")
    tags = Registry("few").read().versions[number].tags
    assert len(tags) == 12
    gate = sensitivity_floor_gate(tags)
    assert gate is not None and "0.850 on the test split, at most 0.970" in gate.sentence


def test_a_version_points_to_the_logged_model(
    local_registry: str, textures: Path, scans: Path
) -> None:
    with mlflow.start_run() as run:
        model = logged_model(textures, run)
        number = register(
            textures, name="linked", scores=SCORES, manifest=scans / "manifest.csv", model_id=model
        )
    version = mlflow.MlflowClient().get_model_version("linked", str(number))
    assert version.source == f"models:/{model}"
    shown = mlflow.get_logged_model(str(model)).tags["mlflow.modelVersions"]
    assert json.loads(shown) == [{"name": "linked", "version": str(number)}]
    assert version.run_id == run.info.run_id
    kept = {file.path for file in mlflow.artifacts.list_artifacts(run_id=run.info.run_id)}
    assert kept == {"registry"}  # the model's files lie with the LoggedModel, once
    loaded = Model.load(mlflow.artifacts.download_artifacts(f"models:/linked/{number}"))
    assert loaded.metadata == Model.load(str(textures)).metadata


def test_the_manifest_is_stored_without_file_names(
    local_registry: str, textures: Path, scans: Path
) -> None:
    number = registered(textures, scans, "manifest")
    run_id = Registry("manifest").read().versions[number].run_id
    rows = list(
        csv.DictReader(
            mlflow.artifacts.load_text(f"runs:/{run_id}/{MANIFEST_ARTIFACT}").splitlines()
        )
    )
    with (scans / "manifest.csv").open() as file:
        local = list(csv.DictReader(file))
    assert set(rows[0]) == {"sha256", "label", "group", "split"}
    assert rows == [{key: row[key] for key in rows[0]} for row in local]


def test_an_unchanged_model_adds_no_version_and_a_changed_one_does(
    local_registry: str, textures: Path, scans: Path, tmp_path: Path
) -> None:
    first = registered(textures, scans, "again")
    with mlflow.start_run() as run:
        again = register(textures, name="again", scores=SCORES, manifest=scans / "manifest.csv")
    assert again == first
    assert not mlflow.artifacts.list_artifacts(run_id=run.info.run_id)
    saved_anew = variant(textures, tmp_path / "anew", model_uuid="0" * 32, utc_time_created="now")
    assert registered(saved_anew, scans, "again") == first
    changed = variant(textures, tmp_path / "changed", wrong=0.1)
    assert registered(changed, scans, "again") == first + 1
    other_data = variant(textures, tmp_path / "data", data_digest="d2")
    assert registered(other_data, scans, "again") == first + 2
    assert sorted(Registry("again").read().versions) == [first, first + 1, first + 2]


def test_what_lacks_an_input_example_or_its_digest_is_refused(
    local_registry: str, textures: Path, scans: Path, tmp_path: Path
) -> None:
    bare = variant(textures, tmp_path / "bare")
    entries = yaml.safe_load((bare / "MLmodel").read_text())
    del entries["saved_input_example_info"]
    (bare / "MLmodel").write_text(yaml.safe_dump(entries))
    with pytest.raises(RegistryError, match="no signature or no input example"):
        registered(bare, scans, "bare")
    unnamed = variant(textures, tmp_path / "unnamed", model_digest=None)
    with pytest.raises(RegistryError, match="has no model_digest"):
        registered(unnamed, scans, "bare")
    with pytest.raises(RegistryError, match="active MLflow run"):
        register(textures, name="bare", scores={}, manifest=scans / "manifest.csv")


def test_the_lock_is_known_by_what_made_the_model(tmp_path: Path) -> None:
    lock = tmp_path / "dvc.lock"
    assert lock_digest(lock) == "unknown"
    lock.write_text("stages:\n  training: {cmd: a}\n")
    before = lock_digest(lock)
    lock.write_text("stages:\n  training: {cmd: a}\n  evaluation: {cmd: b}\n")
    assert lock_digest(lock) == before
    lock.write_text("stages:\n  training: {cmd: c}\n")
    assert lock_digest(lock) != before
