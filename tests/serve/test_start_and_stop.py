"""Starting from a registry, a folder or nothing; workers; SIGTERM."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests

from serve.model_files import ModelFiles, about, fetch, first_line, scores_in_tags, scores_of_model
from serve.process import CannotStartError, bind, url_of
from tests.s3_server import free_port
from tests.serve.conftest import png
from tests.serve.gate import Gate
from tests.serve.server_process import ROOT, running_serve
from tests.serve.test_observe import value

EXTERNAL = '{"scans": 306, "roc_auc": 0.87, "roc_auc_ci95": [0.81, 0.92]}'
SCORES = {
    "accuracy": 0.9,
    "accuracy_ci95": [0.8, 0.95],
    "n": 48,
    "sensitivity": {"value": 0.92, "ci95": [0.75, 0.98], "successes": 23, "n": 25},
}


def start_and_fail(*options: str, env: dict[str, str] | None = None) -> str:
    """Run `python -m serve` with options it refuses; return what it says."""
    command = [sys.executable, "-m", "serve", *options]
    ended = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **(env or {})}, capture_output=True, timeout=120
    )
    assert ended.returncode == 2
    said = ended.stderr.decode()
    assert "Traceback" not in said
    return said


def test_an_open_address_needs_a_key_or_a_word(tmp_path: Path) -> None:
    said = start_and_fail("--model-uri", "x", "--host", "0.0.0.0")
    assert "--api-key-file" in said
    assert "--no-auth" in said
    empty = tmp_path / "keys"
    empty.write_text("# none yet\n")
    empty.chmod(0o600)
    said = start_and_fail("--model-uri", "x", "--api-key-file", str(empty))
    assert "at least one key" in said
    said = start_and_fail("--model-uri", "x", "--no-auth", env={"CHEST_CT_API_KEYS": "k" * 20})
    assert "leave one out" in said
    assert "kkk" not in said


def test_a_taken_port_is_told_at_once() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        said = start_and_fail("--model-uri", "x", "--port", str(other.getsockname()[1]))
    assert "Address already in use" in said
    assert "--port" in said


def test_passwords_in_addresses_are_not_repeated() -> None:
    error = ValueError("API request to http://me:secret@host/api failed with exception HTTP(…)")
    assert first_line(error) == "API request to http://host/api failed."


@pytest.fixture(scope="module")
def store(trial_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a store in which evaluation's doings are repeated for the trial model."""
    folder, model = tmp_path_factory.mktemp("store"), trial_model
    code = f"""
import mlflow, warnings
warnings.simplefilter("ignore")
client = mlflow.MlflowClient()
client.create_registered_model("chest-ct")
experiment = mlflow.create_experiment("e", artifact_location={str(folder / "artifacts")!r})
with mlflow.start_run(experiment_id=experiment) as run:
    mlflow.log_artifacts({str(model)!r}, "registered_model")
    mlflow.log_dict({SCORES!r}, "registry/scores.json")
    source = mlflow.get_artifact_uri("registered_model")
version = client.create_model_version("chest-ct", source=source, run_id=run.info.run_id)
client.transition_model_version_stage("chest-ct", version.version, "Production")
client.set_registered_model_alias("chest-ct", "champion", version.version)
client.set_model_version_tag("chest-ct", version.version, "external.elsewhere", {EXTERNAL!r})
"""
    env = {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
    command = [sys.executable, "-c", code]
    subprocess.run(command, env={**os.environ, **env}, check=True, timeout=180)
    return env


def test_no_model_there(store: dict[str, str], tmp_path: Path) -> None:
    assert "no MLmodel file" in start_and_fail("--model-uri", str(tmp_path))
    said = start_and_fail("--model-uri", "models:/chest-ct/Staging", env=store)
    assert "no model to be had at models:/chest-ct/Staging" in said
    assert "MLFLOW_TRACKING_URI" in said


def test_workers_serve_one_registered_version_and_count_together(
    store: dict[str, str], tmp_path: Path
) -> None:
    uri = "models:/chest-ct/Production"
    with running_serve(uri, tmp_path, "--workers", "2", env=store) as server:
        about = requests.get(f"{server.url}/model", timeout=30).json()
        assert (about["name"], about["version"], about["stage"]) == ("chest-ct", "1", "Production")
        assert about["aliases"] == ["champion"]
        assert about["scores"] == SCORES
        assert about["external"] == {"elsewhere": json.loads(EXTERNAL)}
        assert about["phantom"] is True
        assert about["classes"][0] == "adenocarcinoma"
        for _ in range(12):  # each on a connection of its own, so both workers get some
            files = {"files": ("a.png", png(9))}
            answer = requests.post(f"{server.url}/predict", files=files, timeout=30)
            assert answer.json()["model"]["version"] == "1"
        metrics = requests.get(f"{server.url}/metrics", timeout=30).text
        assert value(metrics, "chest_ct_rows_total", outcome="scored") == 12
        assert value(metrics, "chest_ct_model_info", name="chest-ct", version="1") == 1
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(20)


def test_sigterm_lets_running_requests_finish(
    trial_model: Path, tmp_path: Path, gate: Gate
) -> None:
    with running_serve(trial_model, tmp_path) as server, ThreadPoolExecutor(4) as pool:

        def slow(_: int) -> requests.Response:
            files = {"files": ("a", gate.scan)}
            return requests.post(f"{server.url}/predict", files=files, timeout=60)

        requests.post(f"{server.url}/predict", files={"files": ("a", b"x")}, timeout=60)
        answers = [pool.submit(slow, i) for i in range(4)]
        gate.wait_until_begun(4)
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(requests.ConnectionError):
            while not any(answer.done() for answer in answers):
                requests.get(f"{server.url}/ping", timeout=5)
        gate.open()
        for answer in answers:
            (row,) = answer.result().json()["predictions"]
            assert row["label"]
        server.process.wait(20)


def test_connections_send_small_answers_at_once() -> None:
    with bind("127.0.0.1", 0) as bound:
        assert bound.proto == socket.IPPROTO_TCP  # what asyncio asks before it sets TCP_NODELAY


def test_addresses_in_the_log_can_be_typed() -> None:
    assert url_of("::1", 5165) == url_of("[::1]", 5165) == "http://[::1]:5165"
    assert url_of("127.0.0.1", 5165) == "http://127.0.0.1:5165"


def test_an_ipv6_address(trial_model: Path, tmp_path: Path) -> None:
    if not has_ipv6():
        pytest.skip("this machine has no IPv6 loopback address")
    port = free_port()
    command = [sys.executable, "-m", "serve", "--model-uri", str(trial_model)]
    command += ["--host", "::1", "--port", str(port)]
    log_file = tmp_path / "log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT)
    try:
        deadline = time.monotonic() + 60
        while "Ready on" not in log_file.read_text() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert f"Ready on http://[::1]:{port}" in log_file.read_text()
        assert requests.get(f"http://[::1]:{port}/model", timeout=10).status_code == 200
    finally:
        process.terminate()
        process.wait(20)


def has_ipv6() -> bool:
    try:
        bind("::1", 0).close()
    except CannotStartError:
        return False
    return True


def test_the_log_says_which_model_is_served(trial_model: Path, tmp_path: Path) -> None:
    with running_serve(trial_model, tmp_path) as server:
        assert server.logged("Serving model_digest=9b1e77d0c4aa")
        answer = requests.get(f"{server.url}/model", timeout=10).json()
        assert answer["model_digest"] == "9b1e77d0c4aa"


def test_the_digest_is_the_one_that_was_written_with_the_model() -> None:
    def metadata(**own: str) -> SimpleNamespace:
        return SimpleNamespace(metadata=own, utc_time_created="", get_params_schema=lambda: None)

    scores = {"accuracy": 0.9, "model_digest": "new"}
    files = ModelFiles(Path(), scores=scores)
    described = about(files, metadata(model_digest="new", network_sha256="old"))
    assert described["model_digest"] == "new"
    assert described["scores"] == scores
    described = about(files, metadata(network_sha256="old"))
    assert described["model_digest"] == "old"
    assert described["scores"] is None
    assert about(files, metadata())["model_digest"] is None


def test_a_model_in_a_checkout_shows_the_scores_of_its_evaluations(tmp_path: Path) -> None:
    model = tmp_path / "artifacts" / "training" / "model"
    elsewhere = tmp_path / "artifacts" / "external_evaluation" / "elsewhere"
    for folder in (model, elsewhere):
        folder.mkdir(parents=True)
    (model / "MLmodel").write_text("{}")
    measure = {"value": 0.7, "ci95": [0.6, 0.8]}
    external = {"n": 20, "groups": 9, "roc_auc": measure, "model": {"model_digest": "d1"}}
    (elsewhere / "scores.json").write_text(json.dumps(external))
    (tmp_path / "scores.json").write_text(json.dumps({"accuracy": 0.9, "model_digest": "d1"}))

    def described(digest: str) -> dict[str, Any]:
        metadata = SimpleNamespace(
            metadata={"model_digest": digest}, utc_time_created="", get_params_schema=lambda: None
        )
        return about(fetch(str(model)), metadata)

    found = described("d1")
    assert found["scores"]["accuracy"] == 0.9
    assert found["external"]["elsewhere"]["roc_auc_ci95"] == [0.6, 0.8]
    retrained = described("d2")
    assert retrained["scores"] is None and retrained["external"] == {}
    (tmp_path / "scores.json").write_text(json.dumps({"accuracy": 0.1}))  # of something else
    assert described("d1")["scores"] is None


def test_scores_of_another_model_are_not_shown() -> None:
    scores = {"accuracy": 0.9, "network_sha256": "a"}
    assert scores_of_model(scores, "a") == scores
    assert scores_of_model(scores, "b") is None
    assert scores_of_model({"accuracy": 0.9}, "b") == {"accuracy": 0.9}
    assert scores_of_model(None, "b") is None


def test_scores_from_tags_are_nested_again() -> None:
    tags = {"score.accuracy": "0.9", "score.sensitivity.value": "0.92", "phantom": "true"}
    assert scores_in_tags(tags) == {"accuracy": 0.9, "sensitivity": {"value": 0.92}}
    assert scores_in_tags({"phantom": json.dumps(True)}) is None


BLAS = """
import sys
from click.testing import CliRunner
from threadpoolctl import threadpool_info
from serve.__main__ import main

assert CliRunner().invoke(main, ["--model-uri", "/nowhere", "--port", sys.argv[1]]).exit_code == 2
import numpy
print([library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"])
"""


def test_numpy_wakes_no_threads_of_its_own() -> None:
    env = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    said = subprocess.run(
        [sys.executable, "-c", BLAS, str(free_port())],
        cwd=ROOT, env=env, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert said.stdout.splitlines()[-1] == "[1]", said.stderr[-2000:]
