"""Evaluation and external evaluation of series, with a real pyfunc on phantom patients."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections import defaultdict
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from click.testing import CliRunner
from sklearn.metrics import roc_auc_score

from model.artefact import Card
from model.conformal import Conformal
from model.series_answer import SeriesAnswer
from scans.limits import Limits
from scans.manifest import ManifestRow, read_manifest
from scans.phantom.patients import write_phantom_patients
from scans.splits import Fractions
from steps.data_ingestion import ingest
from steps.evaluation.__main__ import NETWORK_FOLDER, evaluation
from steps.evaluation.external import main as external_main
from steps.headline import headline
from steps.registry.register import register
from tests.model.tiny import Tiny

ANSWER = SeriesAnswer("maximum", threshold=0.45, conformal=Conformal(0.1, (0.6, 0.6)))
PATIENTS = 10


@pytest.fixture(scope="module")
def patients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantom patients, ingested; two of five are in the test split."""
    folder = tmp_path_factory.mktemp("patients") / "data"
    ingest(
        "phantom",
        folder,
        sha256="",
        class_patterns="",
        fractions=Fractions(0.4, 0.2, 0.4),
        seed=3,
        group_distance_bits=10,
        resplit=False,
        limits=Limits(),
        phantom_images=0,
        phantom_patients=PATIENTS,
    )
    return folder


def answering(trained: Path, folder: Path) -> Path:
    """Copy what training wrote, with a model that answers series by their highest slice."""
    copy = shutil.copytree(trained, folder / "trained")
    network = copy / "model" / NETWORK_FOLDER
    dataclasses.replace(Card.read(network), series=ANSWER).write(network)
    return copy


def in_series(rows: list[ManifestRow]) -> dict[str, list[ManifestRow]]:
    members = defaultdict(list)
    for row in rows:
        members[str(row.series)].append(row)
    return members


def test_the_test_split_is_scored_by_series_and_by_patient(
    tiny_pipeline: Tiny, patients: Path, tmp_path: Path
) -> None:
    trained = answering(tiny_pipeline.trained, tmp_path)
    output, scores_path = tmp_path / "evaluation", tmp_path / "scores.json"
    result = evaluation(patients, trained, output, scores_path, protocol_repeats=0, stress=False)
    section, rows = result["series"], [r for r in read_manifest(patients) if r.split == "test"]
    series = in_series(rows)
    sick = {name for name, own in series.items() if any(r.label != "normal" for r in own)}
    assert 0 < len(sick) < len(series)
    assert section["counts"] == {
        "series": len(series), "answered": len(series), "without_answer": 0,
        "slices": len(rows), "scored": len(rows), "skipped": 0, "failed": 0,
    }  # fmt: skip
    assert section["threshold"] == ANSWER.threshold
    assert section["series"]["diseased"] == len(sick)
    assert section["patients"]["n"] == len({row.patient for row in rows})
    # The answer is the highest slice's, so the slices' own table gives the same scores.
    slices = pd.read_csv(output / "predictions.csv").set_index("sha256")
    p = {n: max(slices.loc[r.sha256, "p_adenocarcinoma"] for r in own) for n, own in series.items()}
    area = roc_auc_score([name in sick for name in p], list(p.values()))
    assert section["series"]["roc_auc"]["value"] == pytest.approx(area)
    found = sum(p[name] >= 0.45 for name in sick)
    assert section["series"]["sensitivity"]["successes"] == found
    # And the key slice is that slice; of a diseased series it shows the nodule or does not.
    answers = pd.read_csv(output / "series_predictions.csv")
    keys = set(answers["key_slice_sha256"])
    masks = {mask.stem for mask in (patients / "masks").glob("*.png")}
    highest = {
        max(own, key=lambda r: slices.loc[r.sha256, "p_adenocarcinoma"]).sha256
        for own in series.values()
    }
    assert keys == highest
    assert section["key_slice"]["series"] == len(sick)
    assert section["key_slice"]["within"]["successes"] == len(keys & masks)
    report = (output / "report.html").read_text(encoding="utf-8")
    assert "Series and patients" in report and "key slice" in report
    assert f"({len(series)} series, {section['patients']['n']} patients)" in headline(scores_path)
    assert "\nkey slice         " in headline(scores_path)


def external(model: object, source: Path, output: Path, *more: str) -> str:
    fixed = ["--model-uri", str(model), "--source", str(source), "--output", str(output)]
    done = CliRunner().invoke(external_main, [*fixed, "--name", "elsewhere", *more])
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("elsewhere")
    write_phantom_patients(folder / "files", folder / "masks", patients=6, seed=77)
    return folder


def test_a_version_carries_the_external_scores_of_series(
    tiny_pipeline: Tiny, elsewhere: Path, local_registry: str, tmp_path: Path
) -> None:
    trained = answering(tiny_pipeline.trained, tmp_path)
    with mlflow.start_run():
        number = register(
            trained / "model",
            name="of-series",
            scores={},
            manifest=tiny_pipeline.data / "manifest.csv",
        )
    printed = external(
        f"models:/of-series/{number}", elsewhere / "files", tmp_path / "out",
        "--lesions", str(elsewhere / "masks"),
    )  # fmt: skip
    folder = tmp_path / "out" / "elsewhere"
    section = json.loads((folder / "scores.json").read_text())["series"]
    assert section["patients"]["n"] == 6 and section["patients"]["diseased"] == 3
    assert section["key_slice"]["series"] == section["series"]["diseased"] >= 3
    assert 0 < section["key_slice"]["by_chance"] < 1 and section["partly_seen"] == 0
    assert "\nseries            AUC " in printed and "6 patients)" in printed
    assert "Series and patients" in (folder / "report.html").read_text(encoding="utf-8")
    version = mlflow.MlflowClient().get_model_version("of-series", str(number))
    metrics = mlflow.get_run(version.run_id).data.metrics
    place = "external/elsewhere/series"
    area = section["series"]["roc_auc"]["value"]
    assert metrics[f"{place}/roc_auc"] == pytest.approx(area)
    assert metrics[f"{place}/patients/n"] == 6
    tag = json.loads(version.tags["external.elsewhere"])
    assert tag["series"]["roc_auc"] == pytest.approx(area) and tag["patients"]["n"] == 6


def test_a_model_that_was_trained_without_series_says_so(
    tiny_pipeline: Tiny, elsewhere: Path, local_registry: str, tmp_path: Path
) -> None:
    printed = external(
        tiny_pipeline.model, elsewhere / "files", tmp_path, "--lesions", str(elsewhere / "masks")
    )
    section = json.loads((tmp_path / "elsewhere" / "scores.json").read_text())["series"]
    assert section["series"] is None and section["patients"] is None
    assert section["counts"]["without_answer"] == section["counts"]["series"] >= 6
    ((sentence, _),) = [why.values() for why in section["why_no_answer"]]
    assert "trained without series" in sentence
    assert section["key_slice"]["series"] >= 3  # which needs no answer
    assert "\nseries            no answer  (" in printed
    report = (tmp_path / "elsewhere" / "report.html").read_text(encoding="utf-8")
    assert "series got no answer: This model was trained without series" in report
