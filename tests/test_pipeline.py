"""The pipeline as its users run it: `mlflow run`, `dvc repro`, `dvc push` and `dvc pull`."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import mlflow
import pytest
import yaml
from dvc_render.vega import VegaRenderer

from steps.headline_metrics import headline_metrics
from steps.parameters import STAGES, parameters_of
from tests.s3_server import S3Server

ROOT = Path(__file__).resolve().parents[1]
SMALL = {
    "phantom_images": "40",
    "group_distance_bits": "10",
    "image_size_px": "32",
    "weights": "random",
    "calibration_images": "8",
    "epochs": "3",
    "protocol_repeats": "2",
}


def run(*command: str, cwd: Path, **more_env: str) -> subprocess.CompletedProcess[str]:
    """Run a program of this Python's environment; its output is part of a failure's message."""
    unwanted = ("MLFLOW_", "AWS_")
    env = {k: v for k, v in os.environ.items() if not k.startswith(unwanted)} | more_env
    env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env["PATH"]])
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)
    if done.returncode:
        print(done.stdout[-4000:], done.stderr[-4000:], sep="\n", file=sys.stderr)
    return done


def mlflow_run(checkout: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    given = [text for k, v in (SMALL | changes).items() for text in ("-P", f"{k}={v}")]
    return run("mlflow", "run", ".", "--env-manager", "local", *given, cwd=checkout)


def runs(checkout: Path) -> list[mlflow.entities.Run]:
    """Return the runs in a checkout's own store, newest first."""
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{checkout / 'mlflow.db'}")
    experiments = [e.experiment_id for e in client.search_experiments()]
    return list(client.search_runs(experiments, order_by=["attributes.start_time DESC"]))


def newest_main(checkout: Path) -> tuple[Any, list[str]]:
    """Return the newest run of the whole pipeline and the stages that ran as its children."""
    every = runs(checkout)
    parent = next(r for r in every if r.data.tags.get("stage") == "main")
    children = [
        r.data.tags["stage"]
        for r in every
        if r.data.tags.get("mlflow.parentRunId") == parent.info.run_id
    ]
    return parent, children[::-1]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A clone of this repository with this working tree's files in it."""
    clone = tmp_path_factory.mktemp("checkout") / "chest-ct"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    if listed.returncode:
        pytest.skip("not a git checkout: the tests of a clone need one")
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, clone / name)
    for command in (
        ["init", "--quiet", "--initial-branch=master"],
        ["add", "--all"],
        ["commit", "--quiet", "-m", "as it is"],
    ):
        identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
        subprocess.run(["git", *identity, *command], cwd=clone, check=True)
    yield clone


@pytest.fixture(scope="module")
def first_run(checkout: Path) -> subprocess.CompletedProcess[str]:
    return mlflow_run(checkout)


def test_mlflow_run_takes_phantoms_to_a_scored_model(
    checkout: Path, first_run: subprocess.CompletedProcess[str]
) -> None:
    assert first_run.returncode == 0
    parent, children = newest_main(checkout)
    assert children == ["data_ingestion", "prepare_base_model", "training", "evaluation"]
    assert parent.info.status == "FINISHED"
    result = json.loads((checkout / "scores.json").read_text())
    assert 0 <= result["accuracy"] <= 1
    assert result["loss"] > 0
    assert result["phantom"] is True
    assert "Synthetic phantoms" in first_run.stdout
    assert "not a medical device" in first_run.stdout
    model = mlflow.pyfunc.load_model(str(checkout / "artifacts" / "training" / "model"))
    assert model.metadata.metadata["phantom"] is True


def test_the_run_of_the_pipeline_shows_what_a_reader_looks_for(
    checkout: Path, first_run: subprocess.CompletedProcess[str]
) -> None:
    """Headline metrics, parameters, scans and the model, in the one experiment there is."""
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{checkout / 'mlflow.db'}")
    (experiment,) = client.search_experiments()
    assert experiment.name == "chest-ct"
    parent, _ = newest_main(checkout)
    scores = json.loads((checkout / "scores.json").read_text())
    assert parent.data.metrics == pytest.approx(headline_metrics(scores))
    assert len(parent.data.metrics) <= 12
    assert parent.info.run_name.startswith("main · phantom · phantom_images=40, ")
    assert parent.data.params["epochs"] == "3" and parent.data.params["l2"] == "30.0"
    inputs = {one.dataset.name for one in parent.inputs.dataset_inputs}
    assert inputs == {"scans", "test split"}
    (output,) = parent.outputs.model_outputs
    (model,) = client.search_logged_models([experiment.experiment_id])
    assert output.model_id == model.model_id
    assert sorted(m.key for m in model.metrics) == sorted(parent.data.metrics), "each once"
    assert "balanced accuracy" in parent.data.tags["mlflow.note.content"]
    all_runs = client.search_runs([experiment.experiment_id])
    assert {one.data.tags.get("phantom", "true") for one in all_runs} == {"true"}
    commit = run("git", "rev-list", "--max-parents=0", "HEAD", cwd=checkout).stdout.strip()
    assert parent.data.tags["mlflow.source.git.commit"] == commit, "not -dirty by its own files"
    every = {run.data.tags["stage"]: run for run in runs(checkout) if "stage" in run.data.tags}
    assert every["training"].info.run_name == "training · phantom · epochs=3"
    assert len(every["evaluation"].data.metrics) <= 12


def test_the_output_is_for_a_person(first_run: subprocess.CompletedProcess[str]) -> None:
    """No score twice, each stage named once, nothing that libraries say of themselves."""
    assert len(re.findall(r"^balanced accuracy ", first_run.stdout, flags=re.MULTILINE)) == 1
    lines = first_run.stderr.splitlines()
    for stage in ("data_ingestion", "prepare_base_model", "training", "evaluation"):
        assert lines.count(stage) == 1
        assert sum(line.startswith(f"{stage}: ") for line in lines) == 1, "how long it took"
    assert not re.findall("absl|oneDNN|TensorFlow|cuda", first_run.stderr, flags=re.IGNORECASE)


def test_a_run_leaves_the_tracked_files_as_they_were(
    checkout: Path, first_run: subprocess.CompletedProcess[str]
) -> None:
    changed = run("git", "status", "--porcelain", cwd=checkout).stdout.split()
    assert changed in ([], ["??", "dvc.lock"])


@pytest.mark.slow
def test_the_same_run_again_runs_no_stage_and_names_them(
    checkout: Path, first_run: subprocess.CompletedProcess[str]
) -> None:
    again = mlflow_run(checkout)
    assert again.returncode == 0
    parent, children = newest_main(checkout)
    assert children == []
    assert parent.data.tags["skipped_stages"] == (
        "data_ingestion, prepare_base_model, training, evaluation"
    )
    assert "training: unchanged, not run again" in again.stderr


@pytest.mark.slow
def test_new_epochs_run_training_and_evaluation_only(
    checkout: Path, first_run: subprocess.CompletedProcess[str]
) -> None:
    assert mlflow_run(checkout, epochs="4").returncode == 0
    _, children = newest_main(checkout)
    assert children == ["training", "evaluation"]
    history = (checkout / "artifacts" / "training" / "history.csv").read_text().splitlines()
    assert len(history) == 1 + 4


def test_dvc_shows_metrics_plots_and_the_pipeline(
    checkout: Path, first_run: subprocess.CompletedProcess[str]
) -> None:
    metrics = run("dvc", "metrics", "show", cwd=checkout).stdout
    assert "balanced_accuracy" in metrics
    assert max(map(len, metrics.splitlines())) <= 120, "it fits a screen"
    assert "prepare_base_model" in run("dvc", "dag", cwd=checkout).stdout
    shown = run("dvc", "plots", "show", cwd=checkout)
    assert shown.returncode == 0
    page = (checkout / "dvc_plots" / "index.html").read_text()
    for title in ("Learning curve", "Confusion matrix", "ROC", "confusion_matrix.png"):
        assert title in page
    assert not re.search(r'<(script|link)[^>]*(src|href)="?https?:', page)
    for name, version in re.findall(r"npm/([a-z-]+)@([\d.]+)", VegaRenderer.SCRIPTS):
        assert f"/* {name}@{version}, BSD-3-Clause */" in page, "as the installed DVC asks for"


def test_dvc_plots_are_drawn_without_a_network(
    checkout: Path, first_run: subprocess.CompletedProcess[str]
) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if not browser:
        pytest.skip("no Chromium on PATH, in which the plots would be drawn")
    assert run("dvc", "plots", "show", cwd=checkout).returncode == 0
    page = (checkout / "dvc_plots" / "index.html").as_uri()
    drawn = run(
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=10000",
        "--host-resolver-rules=MAP * ~NOTFOUND", "--dump-dom", page, cwd=checkout,
    ).stdout  # fmt: skip
    assert len(re.findall("<(?:canvas|svg)[^>]*marks", drawn)) >= 6, "one for each plot"


@pytest.mark.slow
def test_an_experiment_of_dvcs_shows_what_it_changed(checkout: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    ignored = shutil.ignore_patterns("artifacts", "mlruns", "mlflow.db", "dvc.lock", "cache", "tmp")
    shutil.copytree(checkout, clone, symlinks=True, ignore=ignored)
    params = yaml.safe_load((clone / "params.yaml").read_text())
    for name, value in SMALL.items():
        params[_section(name)][name] = yaml.safe_load(value)
    (clone / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    run("git", "add", "--all", cwd=clone)
    assert run("git", *identity, "commit", "-qm", "small", cwd=clone).returncode == 0
    done = run("dvc", "exp", "run", "-n", "longer", "-S", "training.epochs=5", cwd=clone)
    assert done.returncode == 0
    table = run("dvc", "exp", "show", "--only-changed", "--csv", cwd=clone).stdout
    head, *rows = csv.reader(table.splitlines())
    assert not any("overrides" in column or "phantom" in column for column in head)
    (longer,) = (dict(zip(head, row, strict=True)) for row in rows if "longer" in row)
    (before,) = (dict(zip(head, row, strict=True)) for row in rows if "master" in row)
    assert (before["training.epochs"], longer["training.epochs"]) == ("3", "5")
    assert 0 <= float(longer["balanced_accuracy"]) <= 1
    newest = runs(clone)[0]
    assert newest.data.tags["dvc_exp"] == "longer"


def _section(name: str) -> str:
    """Return the section of a parameter."""
    return next(s.section for s in STAGES if name in parameters_of(s))


def test_dvc_push_and_pull_through_s3(
    checkout: Path,
    first_run: subprocess.CompletedProcess[str],
    s3_server: S3Server,
    tmp_path: Path,
) -> None:
    bucket = f"dvc-{uuid4().hex[:8]}"
    s3_server.client().create_bucket(Bucket=bucket)
    for arguments in (
        ["remote", "add", "--default", "store", f"s3://{bucket}/cache"],
        ["remote", "modify", "store", "endpointurl", s3_server.endpoint_url],
    ):
        assert run("dvc", *arguments, cwd=checkout).returncode == 0
    assert run("dvc", "push", cwd=checkout, **s3_server.env()).returncode == 0
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    run("git", "add", "dvc.lock", ".dvc/config", cwd=checkout)
    assert run("git", *identity, "commit", "-qm", "a run", cwd=checkout).returncode == 0
    clone = tmp_path / "clone"
    run("git", "clone", "-q", str(checkout), str(clone), cwd=tmp_path)
    pulled = run("dvc", "pull", cwd=clone, **s3_server.env())
    assert pulled.returncode == 0
    assert (clone / "artifacts/training/model/MLmodel").is_file()
    assert (clone / "scores.json").read_bytes() == (checkout / "scores.json").read_bytes()


def test_works_from_an_unpacked_archive_without_git(checkout: Path, tmp_path: Path) -> None:
    # As it is published: `dvc remote add` rewrites .dvc/config without its comments.
    first = run("git", "rev-list", "--max-parents=0", "HEAD", cwd=checkout).stdout.strip()
    archive = tmp_path / "chest-ct.tar"
    assert run("git", "archive", "-o", str(archive), first, cwd=checkout).returncode == 0
    folder = tmp_path / "unpacked"
    shutil.unpack_archive(archive, folder, filter="data")
    assert not (folder / ".git").exists()
    stages = run("dvc", "stage", "list", cwd=folder)
    assert stages.returncode == 0
    assert "evaluation" in stages.stdout
    dry = run("dvc", "repro", "--dry", "data_ingestion", cwd=folder)
    assert dry.returncode == 0
    assert "python -m steps.data_ingestion" in dry.stdout


@pytest.mark.slow
def test_a_missing_source_gets_one_sentence_and_keeps_what_was_there(
    checkout: Path, first_run: subprocess.CompletedProcess[str]
) -> None:
    scores = (checkout / "scores.json").read_bytes()
    source = '/no/such/pay $HOME "now" `id`.zip'  # text, for no shell to read
    failed = mlflow_run(checkout, source=source)
    assert failed.returncode != 0
    assert source in failed.stderr
    assert (checkout / "overrides.yaml").read_bytes() == (ROOT / "overrides.yaml").read_bytes()
    assert "see above what data_ingestion says" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert (checkout / "scores.json").read_bytes() == scores


def test_a_misspelt_parameter_is_refused_before_any_work(checkout: Path) -> None:
    failed = run(sys.executable, "-m", "steps.main", "epoch=3", cwd=checkout)
    assert failed.returncode == 1
    assert "Did you mean epochs?" in failed.stderr


def test_an_unreachable_tracking_server_gets_one_sentence(checkout: Path) -> None:
    failed = run(
        sys.executable, "-m", "steps.evaluation",
        cwd=checkout, MLFLOW_TRACKING_URI="http://127.0.0.1:9",
    )  # fmt: skip
    assert failed.returncode == 1
    assert "does not answer" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_a_stage_is_an_entry_point_of_its_own(checkout: Path) -> None:
    given = ["phantom_images=20", "group_distance_bits=10", "resplit=true", "seed=0"]
    options = [text for value in given for text in ("-P", value)]
    done = run(
        "mlflow", "run", ".", "--env-manager", "local", "-e", "data_ingestion", *options,
        cwd=checkout,
    )  # fmt: skip
    assert done.returncode == 0
    newest = runs(checkout)[0]
    assert newest.data.tags["stage"] == "data_ingestion"
    assert newest.data.params["resplit"] == "true"
