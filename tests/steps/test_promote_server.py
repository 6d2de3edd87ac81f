"""Promotion through a real MLflow server with basic auth, a SQLite store and artefacts on S3."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest

from steps.registry.client import Registry
from steps.registry.history import claims, history
from steps.registry.moves import disagreements
from steps.registry.recovery import recover
from steps.registry.register import register
from tests.fork_server import ForkServer
from tests.s3_server import S3Server
from tests.steps.mlflow_server import MlflowServer, running_mlflow_server
from tests.steps.moving_processes import killed_mover, race
from tests.steps.promotion_models import EXTERNAL_TAG, variant

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "a long password 1"
LOAD = """
import sys
import mlflow
import pandas as pd
for uri in sys.argv[2:]:
    model = mlflow.pyfunc.load_model(uri)
    image = open(sys.argv[1], "rb").read()
    print(model.predict(pd.DataFrame({"image": pd.Series([image], dtype=object)}))["label"][0])
"""
# The command, in a process that kills the server between the stage and the alias.
SERVER_DIES = """
import os, signal, sys
from steps.registry import client as registry
from steps.promote import main
set_alias = registry.Registry.set_alias
def deadly(*arguments):
    os.killpg(int(os.environ["SERVER_PID"]), signal.SIGKILL)
    set_alias(*arguments)
registry.Registry.set_alias = deadly
main()
"""


@pytest.fixture(scope="module")
def server(
    s3_server: S3Server,
    fork_server: ForkServer,
    textures: Path,
    scans: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[MlflowServer]:
    """A server with two versions of chest-ct; ana may promote, ben may edit, cem only reads."""
    folder = tmp_path_factory.mktemp("server")
    with (
        running_mlflow_server(folder, s3_server, fork_server) as running,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in running.env().items():
            patch.setenv(name, value)
        experiment = mlflow.MlflowClient().create_experiment("chest-ct")
        patch.setenv("MLFLOW_EXPERIMENT_ID", experiment)
        for number, wrong in enumerate((0.0, 0.01)):
            model = variant(textures, folder / f"variant{number}", wrong=wrong)
            with mlflow.start_run():
                made = register(model, name="chest-ct", scores={}, manifest=scans / "manifest.csv")
            Registry("chest-ct").set_version_tag(made, *EXTERNAL_TAG)
        for user, permission in (("ana", "MANAGE"), ("ben", "EDIT"), ("cem", None)):
            running.add_user(user, PASSWORD)
            if permission:
                running.grant(user, "registered_model", "chest-ct", permission)
                running.grant(user, "experiment", experiment, "EDIT")
        yield running


def process(
    server: MlflowServer, *command: str, user: str = "ana", password: str = PASSWORD, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run Python as a user with no S3 credentials and nothing else in the environment."""
    return subprocess.run(
        [sys.executable, *command], env=environment(server, user, password) | more, cwd=ROOT,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def environment(server: MlflowServer, user: str, password: str) -> dict[str, str]:
    known = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return known | server.env(user, password)


def promote(
    server: MlflowServer, scans: Path, *arguments: str, user: str = "ana", password: str = PASSWORD
) -> subprocess.CompletedProcess[str]:
    done = server.forks.run(
        "tests.steps.quick_promote", server.forks.address, "--data", scans, *arguments,
        env=environment(server, user, password), cwd=ROOT,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    assert "Warning" not in done.stderr, done.stderr
    assert password not in done.stdout + done.stderr
    return done


@pytest.fixture
def as_admin(server: MlflowServer, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The variables of this process make it the server's administrator."""
    for name, value in server.env().items():
        monkeypatch.setenv(name, value)
    return server.env()


def test_staging_production_and_back_as_on_dagshub(
    server: MlflowServer, scans: Path, as_admin: dict[str, str]
) -> None:
    for arguments in (
        ("--to", "Staging", "--version", "1"),
        ("--to", "Production"),
        ("--to", "Staging"),
        ("--to", "Production", "--reason", "better"),
    ):
        done = promote(server, scans, *arguments)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
    now = Registry("chest-ct").read()
    assert now.in_stage("Production") == [now.aliases["champion"]] == [2]
    # the artefacts went to S3 through the server, which alone has the credentials
    keys = server.s3.client().list_objects_v2(Bucket=server.bucket)["Contents"]
    assert any(key["Key"].endswith("registered_model/MLmodel") for key in keys)
    assert any("/gates/Production-" in key["Key"] for key in keys)
    uris = ("models:/chest-ct/Production", "models:/chest-ct@champion", "models:/chest-ct/2")
    image = str(scans / "0.png")
    loaded = process(server, "-P", "-c", LOAD, image, *uris)
    assert loaded.stdout.split() == ["adenocarcinoma"] * 3, loaded.stderr

    back = promote(server, scans, "--rollback", "--reason", "drill")
    assert back.stdout == (
        "Version 1 of chest-ct: Archived → Production (alias champion).\n"
        "Version 2 of chest-ct: Production → Archived.\n"
    )
    told = promote(server, scans, "--history", user="cem")
    assert told.returncode == 0
    assert told.stdout.count("UTC  ana  version") == 5
    assert "why: drill" in told.stdout


@pytest.mark.slow
def test_a_server_that_dies_between_stage_and_alias(
    server: MlflowServer, scans: Path, as_admin: dict[str, str]
) -> None:
    registry = Registry("chest-ct")
    before = registry.read().in_stage("Production")
    assert server.process is not None
    died = process(
        server, "-c", SERVER_DIES, "--to", "Staging", "--version", "2", "--data", str(scans),
        SERVER_PID=str(server.process.pid),
    )  # fmt: skip
    assert died.returncode == 2, died.stderr
    assert "was interrupted, and the next command finishes or forgets it" in died.stderr
    assert "does not answer" in died.stderr
    assert len(died.stderr.splitlines()) == 1
    down = promote(server, scans, "--history")
    assert down.returncode == 2
    assert "does not answer" in down.stderr
    assert len(down.stderr.splitlines()) == 1
    server.kill()  # it is dead; this waits for it
    server.start()
    half = registry.read()
    assert half.in_stage("Staging") == [2]
    assert "challenger" not in half.aliases
    repaired = promote(server, scans, "--repair")
    assert repaired.returncode == 0
    assert "finished the move of version 2 to Staging that ana began" in repaired.stderr
    now = registry.read()
    assert now.aliases["challenger"] == 2
    assert now.in_stage("Production") == before
    assert history(now)[-1].who == "ana"
    assert not claims(now)


@pytest.mark.parametrize(
    ("user", "password", "arguments", "sentence"),
    [
        ("ana", "wrong", ("--history",), "refused the credentials"),
        ("ben", PASSWORD, ("--to", "Staging", "--version", "1"), "needs MANAGE on the registered"),
        ("cem", PASSWORD, ("--rollback",), "needs MANAGE on the registered"),
        ("ana", PASSWORD, ("--to", "Staging", "--version", "99"), "has no version 99; it has 1, 2"),
        ("ana", PASSWORD, ("--to", "Prodution"), "did you mean Production"),
        ("ana", PASSWORD, ("--history", "--registered-model-name", "x"), "'x' has no versions"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(
    server: MlflowServer, scans: Path, user: str, password: str, arguments: tuple[str, ...],
    sentence: str,
) -> None:  # fmt: skip
    done = promote(server, scans, *arguments, user=user, password=password)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


def registered_model(name: str) -> Registry:
    """Return a model of which version 1 is in Production and 2 in Staging."""
    client, registry = mlflow.MlflowClient(), Registry(name)
    client.create_registered_model(name)
    for _ in range(3):
        client.create_model_version(name, source="s3://bucket/model")
    for version, stage, alias in ((1, "Production", "champion"), (2, "Staging", "challenger")):
        registry.set_stage(version, stage)
        registry.set_alias(alias, version)
    return registry


@pytest.mark.parametrize("attempt", range(2))
def test_two_promotions_at_once_leave_one_in_production(
    as_admin: dict[str, str], attempt: int
) -> None:
    registry = registered_model(f"race-{attempt}")
    registry.set_stage(2, "None")
    registry.drop_alias("challenger")
    won = race(as_admin, registry.name, (2, 3))
    (winner,) = [version for version in won if version is not None]
    now = registry.read()
    assert now.in_stage("Production") == [now.aliases["champion"]] == [winner]
    assert [entry.version for entry in history(now)] == [winner]


@pytest.mark.parametrize("write", [1, 2])
def test_killed_between_stage_and_alias(as_admin: dict[str, str], write: int) -> None:
    registry = registered_model(f"killed-{write}")
    assert killed_mover(as_admin, registry.name, write, after=True) == -9
    said: list[str] = []
    assert recover(registry, "ben", said.append)
    now = registry.read()
    assert now.in_stage("Production") == [now.aliases["champion"]] == [2]
    assert not disagreements(now)
    assert [entry.version for entry in history(now)] == [2]


def test_artefacts_directly_on_s3(
    as_admin: dict[str, str], server: MlflowServer, textures: Path, scans: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for name, value in server.s3.env().items():
        monkeypatch.setenv(name, value)
    location = f"s3://{server.bucket}/direct"
    experiment = mlflow.MlflowClient().create_experiment("direct", location)
    with mlflow.start_run(experiment_id=experiment):
        number = register(textures, name="direct", scores={}, manifest=scans / "manifest.csv")
    assert (
        mlflow.MlflowClient().get_model_version("direct", str(number)).source.startswith(location)
    )
    refused = process(
        server, "-m", "steps.promote", "--to", "Staging", "--data", str(scans),
        "--registered-model-name", "direct", user="admin", HOME="/nonexistent",
        password=server.env()["MLFLOW_TRACKING_PASSWORD"], AWS_EC2_METADATA_DISABLED="true",
    )  # fmt: skip
    assert refused.returncode == 2
    assert "The artefacts of version 1 cannot be read: NoCredentialsError" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    moved = process(
        server, "-m", "steps.promote", "--to", "Staging", "--data", str(scans),
        "--registered-model-name", "direct", user="admin",
        password=server.env()["MLFLOW_TRACKING_PASSWORD"], **server.s3.env(),
    )  # fmt: skip
    assert moved.returncode == 0, moved.stderr
    assert Registry("direct").read().aliases == {"challenger": 1}
