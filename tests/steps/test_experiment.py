"""One experiment, however a run is started: the pipeline's runs and those of the batch job."""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
import yaml
from mlflow import MlflowClient

from logs.experiment import experiment_id, resumed_run, started_run
from tests.steps.mlflow_server import no_tracking_uri

ROOT = Path(__file__).resolve().parents[2]
OPENERS = ("logs/experiment.py", "steps/tracking/runs.py")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new SQLite store, which takes seconds to make."""
    folder = tmp_path_factory.mktemp("template")
    MlflowClient(f"sqlite:///{folder}/mlflow.db").search_experiments()
    return folder / "mlflow.db"


@pytest.fixture
def store(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MlflowClient]:
    """A new store of this test's own, with the experiment `Default` alone."""
    for name in ("MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    no_tracking_uri(monkeypatch)
    shutil.copyfile(template, tmp_path / "mlflow.db")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    yield MlflowClient()
    while mlflow.active_run():
        mlflow.end_run()


def made_by_mlflow_run(client: MlflowClient) -> str:
    return str(client.create_run("0", run_name="bouncy-hawk-123").info.run_id)


def experiment_of(run: mlflow.ActiveRun) -> str:
    return str(mlflow.get_experiment(run.info.experiment_id).name)


def test_on_a_server_a_run_of_mlflow_run_goes_on_in_the_experiment(
    store: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where Default holds nothing else: on a server it is everybody's."""
    made = made_by_mlflow_run(store)
    store.log_param(made, "batch_size", "64")
    monkeypatch.setenv("MLFLOW_RUN_ID", made)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "0")
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: "https://mlflow.example.org")
    run = resumed_run(made)
    assert run.info.run_id != made
    assert experiment_of(run) == "chest-ct"
    assert mlflow.get_run(run.info.run_id).data.params == {"batch_size": "64"}
    left = store.get_run(made)
    assert left.info.status == "FINISHED"
    assert left.data.tags["continued_as"] == run.info.run_id
    store.set_terminated(made, "FAILED")  # as `mlflow run` does at its end, by the exit code
    assert store.get_experiment("0").name == "Default"


def test_a_local_store_of_its_own_has_one_experiment(store: MlflowClient) -> None:
    made = made_by_mlflow_run(store)
    run = resumed_run(made)
    assert run.info.run_id == made
    assert experiment_of(run) == "chest-ct" and run.info.experiment_id == "0"
    assert experiment_id() == "0"


def test_a_run_in_an_experiment_that_somebody_chose_stays(store: MlflowClient) -> None:
    own = store.create_experiment("mine")
    made = store.create_run(own, run_name="before the holidays").info.run_id
    run = resumed_run(made)
    assert (run.info.run_id, run.info.experiment_id) == (made, own)


def test_two_that_make_the_experiment_at_once_share_it(
    store: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.create_run("0")  # somebody else's, so that Default is not renamed
    made = store.create_experiment("chest-ct")
    by_name, asked = MlflowClient.get_experiment_by_name, []

    def late(client: MlflowClient, name: str) -> object:
        asked.append(name)
        early = name == "chest-ct" and asked.count(name) <= 2
        return None if early else by_name(client, name)

    monkeypatch.setattr(MlflowClient, "get_experiment_by_name", late)
    assert experiment_id() == made


def test_a_job_starts_its_run_in_the_experiment_or_in_the_one_that_was_chosen(
    store: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.create_run("0")
    with started_run("batch_scoring · s3://hospital/scans/") as run:
        assert experiment_of(run) == "chest-ct"
    assert store.get_run(run.info.run_id).info.run_name == "batch_scoring · s3://hospital/scans/"
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "nightly")
    with started_run("x") as run:
        assert experiment_of(run) == "nightly"


def test_a_name_that_mlflow_drew_is_replaced_and_one_of_a_person_stays(
    store: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = store.create_experiment("mine")
    for drawn, kept in (("bouncy-hawk-123", "batch_scoring · scans"), ("second try", "second try")):
        made = store.create_run(own, run_name=drawn).info.run_id
        monkeypatch.setenv("MLFLOW_RUN_ID", made)
        with started_run("batch_scoring · scans"):
            pass
        assert store.get_run(made).info.run_name == kept


def calls(path: Path) -> set[str]:
    """Return the last names of what a module calls."""
    functions = [n.func for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
    return {f.id if isinstance(f, ast.Name) else getattr(f, "attr", "") for f in functions}


def test_every_entry_point_opens_its_run_there() -> None:
    project = yaml.safe_load((ROOT / "MLproject").read_text(encoding="utf-8"))
    modules = {
        name: re.search(r"python -m ([\w.]+)", entry["command"])[1]  # type: ignore[index]
        for name, entry in project["entry_points"].items()
    }
    assert modules["batch_scoring"] == "batch" and len(modules) == 8
    for name, module in modules.items():
        path = ROOT / module.replace(".", "/")
        path = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
        opened = calls(ROOT / "batch" / "tracking.py" if name == "batch_scoring" else path)
        assert {"stage_run", "started_run"} & opened, name
    others = [
        path.relative_to(ROOT).as_posix()
        for folder in ("batch", "logs", "model", "scans", "serve", "steps")
        for path in (ROOT / folder).rglob("*.py")
        if re.search(r"mlflow\.(start_run|set_experiment)\(", path.read_text(encoding="utf-8"))
    ]
    assert sorted(others) == sorted(OPENERS)
