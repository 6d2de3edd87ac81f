"""A stage's MLflow run: where it is opened, what it says, and servers that do not help."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import click
import mlflow
import pytest
from click.testing import CliRunner

from steps.errors import StageError, one_sentence_errors
from steps.tracking import (
    PARENT_RUN_VARIABLE,
    check_tracking_server,
    log_params,
    run_name,
    stage_run,
)
from tests.steps.mlflow_server import no_tracking_uri

SECRET = "correct horse"


@pytest.fixture(autouse=True)
def own_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of the machine's, and the tracking URI of other tests put back."""
    for name in (
        "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN",
        "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_ID", PARENT_RUN_VARIABLE,
    ):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    no_tracking_uri(monkeypatch)


@contextlib.contextmanager
def answering(status: int) -> Iterator[tuple[str, list[str]]]:
    """Run an HTTP server that gives one answer; yields its URI and the Authorization it got."""
    authorizations: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            authorizations.append(self.headers.get("Authorization", ""))
            self.send_response(status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", authorizations
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (401, r"refused the credentials \(HTTP 401\)"),
        (403, r"refused the credentials \(HTTP 403\)"),
        (404, "HTTP 404 instead of an MLflow tracking API"),
        (500, "HTTP 500"),
    ],
)
def test_a_server_that_refuses_gets_one_sentence(
    status: int, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "clerk")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", SECRET)
    with answering(status) as (uri, _):
        mlflow.set_tracking_uri(uri)
        with pytest.raises(StageError, match=sentence) as raised, stage_run("training"):
            pytest.fail("the stage began")
    assert uri in str(raised.value)
    assert SECRET not in str(raised.value)


def test_the_question_carries_the_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "a-token")
    with answering(200) as (uri, authorizations):
        mlflow.set_tracking_uri(uri)
        check_tracking_server()
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "clerk")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", SECRET)
        check_tracking_server()
    assert authorizations[0] == "Bearer a-token"
    assert authorizations[1].startswith("Basic ")


def test_a_server_that_is_away_is_told_at_once() -> None:
    with socket.socket() as taken:  # bound and not listening: nothing answers there
        taken.bind(("127.0.0.1", 0))
        mlflow.set_tracking_uri(f"http://127.0.0.1:{taken.getsockname()[1]}")
        begun = time.monotonic()
        with pytest.raises(StageError, match=r"does not answer .* MLFLOW_TRACKING_URI"):
            check_tracking_server()
    assert time.monotonic() - begun < 60  # MLflow itself retries for minutes


@pytest.fixture
def store(local_registry_uri: str) -> str:
    mlflow.set_tracking_uri(local_registry_uri)
    return local_registry_uri


def test_a_run_of_its_own_in_the_experiment(store: str) -> None:
    with stage_run("training") as run:
        pass
    kept = mlflow.get_run(run.info.run_id)
    assert kept.info.status == "FINISHED"
    assert kept.data.tags["stage"] == "training"
    assert mlflow.get_experiment(kept.info.experiment_id).name == "chest-ct"


def test_what_mlflow_run_made_in_default_goes_on_in_the_experiment(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else's runs lie in Default, so it keeps its name, and our run moves."""
    client = mlflow.MlflowClient()
    client.create_run("0")
    made = client.create_run("0", run_name="bouncy-hawk-123", tags={"mlflow.user": "ana"})
    client.log_param(made.info.run_id, "epochs", "3")
    monkeypatch.setenv("MLFLOW_RUN_ID", made.info.run_id)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "0")
    with stage_run("main", "main · phantom · epochs=3") as run:
        mlflow.log_metric("accuracy", 0.5)
    moved = mlflow.get_run(run.info.run_id)
    assert mlflow.get_experiment(moved.info.experiment_id).name == "chest-ct"
    assert moved.info.run_name == "main · phantom · epochs=3"
    assert moved.data.params == {"epochs": "3"}
    assert moved.data.tags["mlflow.user"] == "ana"
    left = client.get_run(made.info.run_id)
    assert left.info.status == "FINISHED"
    client.set_terminated(made.info.run_id, "FINISHED")  # as `mlflow run` does at its end
    assert left.data.tags["continued_as"] == run.info.run_id


def test_an_untouched_default_of_a_local_store_becomes_the_experiment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    client = mlflow.MlflowClient()
    made = client.create_run("0", run_name="bouncy-hawk-123")
    monkeypatch.setenv("MLFLOW_RUN_ID", made.info.run_id)
    with stage_run("main", "main · phantom") as run:
        assert run.info.run_id == made.info.run_id
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    with stage_run("training") as by_hand:
        pass
    (experiment,) = client.search_experiments()
    assert experiment.name == "chest-ct"
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    assert by_hand.info.experiment_id == run.info.experiment_id
    assert client.get_run(made.info.run_id).info.run_name == "main · phantom"


def test_an_experiment_and_a_name_that_a_person_chose_stay(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = mlflow.MlflowClient()
    own = client.create_experiment("mine")
    made = client.create_run(own, run_name="before the holidays")
    monkeypatch.setenv("MLFLOW_RUN_ID", made.info.run_id)
    with stage_run("main", "main · phantom") as run:
        pass
    kept = client.get_run(run.info.run_id).info
    assert (kept.run_id, kept.experiment_id) == (made.info.run_id, own)
    assert kept.run_name == "before the holidays"


@pytest.mark.parametrize(
    ("source", "changed", "name"),
    [
        ("phantom", {}, "main · phantom"),
        ("phantom", {"epochs": 5, "flip": True}, "main · phantom · epochs=5, flip=true"),
        ("/data/scans of june.zip", {"source": "x"}, "main · scans of june.zip"),
        ("s3://key:secret@bucket/a/b/", {}, "main · b"),
        ("https://user:secret@x.org/scans.zip?token=secret", {}, "main · scans.zip"),
        ("kaggle=a.zip;iq=/b/c.zip", {"labels": "l.csv"}, "main · kaggle+iq"),
        ("", {}, "main"),
    ],
)
def test_a_runs_name_says_what_was_run(source: str, changed: dict[str, object], name: str) -> None:
    assert run_name("main", source, changed) == name
    assert len(run_name("main", source, {f"p{i}": "x" * 99 for i in range(30)})) <= 120


def test_a_child_of_the_pipelines_run(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment_id = mlflow.get_experiment_by_name("chest-ct").experiment_id
    parent = mlflow.MlflowClient().create_run(experiment_id)
    monkeypatch.setenv(PARENT_RUN_VARIABLE, parent.info.run_id)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment_id)
    with stage_run("training") as run:
        pass
    assert mlflow.get_run(run.info.run_id).data.tags["mlflow.parentRunId"] == parent.info.run_id


def test_the_run_that_mlflow_run_made_goes_on_and_keeps_its_parameters(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = mlflow.MlflowClient()
    made = client.create_run(mlflow.get_experiment_by_name("chest-ct").experiment_id)
    for name, words in {"flip": "true", "sha256": "''", "learning_rate": "1e-3"}.items():
        client.log_param(made.info.run_id, name, words)
    monkeypatch.setenv("MLFLOW_RUN_ID", made.info.run_id)
    with stage_run("training") as run:
        log_params({"flip": True, "sha256": "", "learning_rate": 0.001, "weights_sha256": "ab"})
    assert run.info.run_id == made.info.run_id
    assert mlflow.get_run(made.info.run_id).data.params == {
        "flip": "true", "sha256": "''", "learning_rate": "1e-3", "weights_sha256": "ab",
    }  # fmt: skip


def test_a_stage_that_fails_leaves_a_failed_run(store: str) -> None:
    with pytest.raises(StageError), stage_run("training") as run:
        raise StageError("no scans")
    assert mlflow.get_run(run.info.run_id).info.status == "FAILED"


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(28, "No space left on device", "x.bin"), "The disk is full (x.bin)."),
        (PermissionError(13, "Permission denied", "x"), "No permission to read or write (x)."),
        (FileNotFoundError(2, "No such file", "x"), "A file is missing (x)."),
        (mlflow.MlflowException("gone\nmore lines"), "MLflow refused: gone"),
        (StageError("Expected scans."), "Expected scans."),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_a_users_mistake_ends_with_one_sentence_and_exit_code_1(
    error: Exception, sentence: str
) -> None:
    @click.command()
    @one_sentence_errors
    def command() -> None:
        raise error

    done = CliRunner().invoke(command)
    assert done.exit_code == 1
    assert done.stderr.startswith(f"Error: {sentence}")
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


def test_a_fault_of_the_program_keeps_its_traceback() -> None:
    @click.command()
    @one_sentence_errors
    def command() -> None:
        raise KeyError("a bug")

    assert isinstance(CliRunner().invoke(command).exception, KeyError)
