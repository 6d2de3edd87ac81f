"""A model scored on a set from elsewhere: what is left out, written, recorded and refused."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from click.testing import CliRunner, Result

from scans.manifest import read_manifest
from scans.phantom.drawing import write_phantoms
from steps.evaluation.__main__ import evaluation
from steps.evaluation.external import main
from steps.evaluation.external_record import lines
from steps.registry.client import Registry
from steps.registry.register import register
from steps.training.training_scans import FILE
from tests.model.tiny import Tiny


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders of phantoms that no model was made from, under other names."""
    folder = tmp_path_factory.mktemp("elsewhere")
    write_phantoms(folder / "files", folder / "masks", images=24, seed=77)
    found = folder / "files"
    (found / "adenocarcinoma").rename(found / "malignant")
    return found


def run(model: object, source: Path, output: Path, *arguments: str) -> Result:
    fixed = ["--model-uri", str(model), "--source", str(source), "--output", str(output)]
    result = CliRunner().invoke(main, [*fixed, "--name", "elsewhere", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


MAPPED = ("--class-patterns", "malignant=disease")


def test_scores_and_report_of_a_model_in_a_folder(
    tiny_pipeline: Tiny, elsewhere: Path, local_registry: str, tmp_path: Path
) -> None:
    done = run(tiny_pipeline.model, elsewhere, tmp_path, *MAPPED)
    assert done.exit_code == 0, done.output
    scores = json.loads((tmp_path / "elsewhere" / "scores.json").read_text())
    assert scores["n"] == 24 and scores["per_class"] == {"disease": 12, "normal": 12}
    assert scores["left_out"] == {"same bytes": 0, "near-duplicate": 0, "same patient": 0}
    assert 0 <= scores["roc_auc"]["value"] <= 1 and len(scores["roc_auc"]["ci95"]) == 2
    assert [row["prevalence"] for row in scores["at_prevalence"]] == [0.01, 0.05, 0.3]
    rows = pd.read_csv(tmp_path / "elsewhere" / "predictions.csv")
    assert len(rows) == 24 and "path" not in rows and rows["error"].isna().all()
    report = (tmp_path / "elsewhere" / "report.html").read_text()
    assert "Research software, not a medical device" in report
    assert re.search(r"<dd>\d{4}-\d\d-\d\d \d\d:\d\d UTC</dd>", report)
    assert f"<dd>{elsewhere}</dd>" in report and scores["model"]["model_digest"] in report
    assert f"{scores['roc_auc']['value']:.3f}" in report
    assert "ROC AUC" in done.stdout and "Research software" in done.stdout


def test_the_models_own_scans_are_left_out(
    tiny_pipeline: Tiny, elsewhere: Path, local_registry: str, tmp_path: Path
) -> None:
    source = shutil.copytree(elsewhere, tmp_path / "source")
    own = read_manifest(tiny_pipeline.data)
    for row in own[:5]:
        folder = "malignant" if row.label != "normal" else "normal"
        shutil.copyfile(tiny_pipeline.data / row.path, source / folder / f"own{row.sha256[:8]}.png")
    done = run(tiny_pipeline.model, source, tmp_path / "out", *MAPPED)
    assert done.exit_code == 0, done.output
    scores = json.loads((tmp_path / "out" / "elsewhere" / "scores.json").read_text())
    assert scores["left_out"]["same bytes"] == 5 and scores["n"] == 24
    assert "left out          5 that the model's data set has" in done.stdout
    everything = run(tiny_pipeline.model, tiny_pipeline.data / "scans", tmp_path / "none")
    assert everything.exit_code == 1
    assert "None of the 40 scans is left" in everything.stderr
    assert not (tmp_path / "none").exists()


def test_a_version_carries_its_external_scores(
    tiny_pipeline: Tiny, elsewhere: Path, local_registry: str, tmp_path: Path
) -> None:
    with mlflow.start_run():
        number = register(
            tiny_pipeline.model,
            name="outside",
            scores={},
            manifest=tiny_pipeline.data / "manifest.csv",
        )
    done = run(f"models:/outside/{number}", elsewhere, tmp_path, *MAPPED)
    assert done.exit_code == 0, done.output
    assert f"recorded with version {number} of outside" in done.stderr
    version = Registry("outside").read().versions[number]
    tag = json.loads(version.tags["external.elsewhere"])
    assert tag["scans"] == 24 and len(tag["roc_auc_ci95"]) == 2
    described = mlflow.MlflowClient().get_model_version("outside", str(number)).description
    assert "| elsewhere, n = 24 |" in described and "SYNTHETIC" in described
    assert f"| AUC | {tag['roc_auc']:.3f} (" in described
    assert "Scored on no scans from elsewhere" not in described
    metrics = mlflow.get_run(str(version.run_id)).data.metrics
    assert metrics["external/elsewhere/roc_auc"] == pytest.approx(tag["roc_auc"])
    kept = mlflow.artifacts.list_artifacts(f"runs:/{version.run_id}/external/elsewhere")
    assert {Path(file.path).name for file in kept} == {
        "scores.json", "predictions.csv", "report.html",
    }  # fmt: skip


def test_a_set_of_one_class_gives_its_rate(
    tiny_pipeline: Tiny, elsewhere: Path, local_registry: str, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    shutil.copytree(elsewhere / "normal", source / "normal")
    done = run(tiny_pipeline.model, source, tmp_path / "out")
    assert done.exit_code == 0, done.output
    scores = json.loads((tmp_path / "out" / "elsewhere" / "scores.json").read_text())
    assert scores["roc_auc"]["value"] is None and scores["sensitivity"]["n"] == 0
    assert scores["specificity"]["n"] == 12
    assert "specificity" in done.stdout and "ROC AUC" not in done.stdout


def test_a_table_of_labels_stands_for_class_folders(
    tiny_pipeline: Tiny, elsewhere: Path, local_registry: str, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    lines = ["path,label,patient"]
    for number, file in enumerate(sorted(elsewhere.rglob("*.png"))):
        shutil.copyfile(file, source / f"{number}.png")
        label = "disease" if file.parent.name == "malignant" else "normal"
        lines.append(f"{number}.png,{label},p{number // 4}")
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    done = run(
        tiny_pipeline.model, source, tmp_path / "out", "--labels", str(tmp_path / "labels.csv")
    )
    assert done.exit_code == 0, done.output
    scores = json.loads((tmp_path / "out" / "elsewhere" / "scores.json").read_text())
    assert scores["n"] == 24 and scores["per_class"] == {"disease": 12, "normal": 12}
    assert scores["groups"] <= 6  # four scans of a patient are one group


@pytest.mark.parametrize(("upper", "how"), [(0.8, "beyond chance"), (0.97, "within chance")])
def test_a_floor_that_is_missed_elsewhere_is_said(upper: float, how: str) -> None:
    nothing = {"value": None, "ci95": None}
    result = {
        "name": "a", "n": 9, "groups": 9, "diseased": 5, "rejected": 0, "failed": 0,
        "left_out": {}, "stated_sensitivity": 0.95, "out_of_domain": {"all": {"value": 0.0}},
        "undecided": None, "roc_auc": nothing, "specificity": nothing,
        "balanced_accuracy": nothing, "sensitivity": {"value": 0.7, "ci95": [0.5, upper]},
    }  # fmt: skip
    (said,) = [line for line in lines(result) if line.startswith("floor missed")]
    assert "0.950 is stated" in said and how in said


def test_mistakes_get_one_sentence_and_leave_nothing(
    tiny_pipeline: Tiny, elsewhere: Path, local_registry: str, tmp_path: Path
) -> None:
    old = shutil.copytree(tiny_pipeline.model, tmp_path / "old")
    (old / FILE).unlink()
    for model, source, arguments, sentence in (
        (tiny_pipeline.model, elsewhere, (), "The model does not know the class malignant"),
        (old, elsewhere, MAPPED, "saved by an older version of chest-ct"),
        (tmp_path / "nothing", elsewhere, MAPPED, "Expected model_uri to name a model"),
        (tiny_pipeline.model, tmp_path / "gone", MAPPED, "No such file or folder"),
        (tiny_pipeline.model, elsewhere, (*MAPPED, "--prevalence", "0.1;2"), "Received: '2'"),
        (
            tiny_pipeline.model,
            elsewhere,
            (*MAPPED, "--name", "a/b"),
            "Expected name as 1 to 40 letters",
        ),
    ):
        done = run(model, source, tmp_path / "out", *arguments)
        assert done.exit_code == 1, sentence
        assert sentence in done.stderr and done.stderr.count("Error:") == 1
        assert not (tmp_path / "out").exists()


def test_the_versions_own_report_shows_the_set_beside_its_numbers(
    tiny_pipeline: Tiny, elsewhere: Path, local_registry: str, tmp_path: Path
) -> None:
    scores = evaluation(
        tiny_pipeline.data,
        tiny_pipeline.trained,
        tmp_path / "evaluation",
        tmp_path / "scores.json",
        protocol_repeats=0,
        stress=False,
    )
    manifest = tiny_pipeline.data / "manifest.csv"
    with mlflow.start_run() as started:
        mlflow.log_artifacts(str(tmp_path / "evaluation"), "evaluation")
        number = register(tiny_pipeline.model, name="beside", scores=scores, manifest=manifest)
    done = run(f"models:/beside/{number}", elsewhere, tmp_path, *MAPPED)
    assert done.exit_code == 0, done.output
    report = mlflow.artifacts.load_text(f"runs:/{started.info.run_id}/evaluation/report.html")
    assert "elsewhere<br>" in report and "scored on no scans from elsewhere" not in report
    assert 'src="data:image/png' in report
