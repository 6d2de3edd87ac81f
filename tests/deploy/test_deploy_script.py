"""deploy/deploy.sh on real containers: what is served after each kind of deployment."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.deploy.conftest import ROOT, Engine

SCRIPT = ROOT / "deploy" / "deploy.sh"
Build = Callable[..., str]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Host:
    """A host that runs one container, as deploy.sh sees it."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine = engine
        self.port = free_port()
        self.name = f"chest-ct-test-{self.port}"
        self.env_file = folder / "chest-ct.env"
        self.env_file.touch()
        self.env = os.environ | {
            "CONTAINER_TOOL": engine.tool,
            "CHEST_CT_NAME": self.name,
            "CHEST_CT_PORT": f"127.0.0.1:{self.port}",
            "CHEST_CT_ENV_FILE": str(self.env_file),
            "CHEST_CT_MEMORY": "128m",
            "HEALTH_TIMEOUT_S": "60",  # ample, for a busy machine
            "TMPDIR": str(folder),
        }

    def start(self, argument: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", str(SCRIPT), argument], env=self.env, stderr=subprocess.PIPE, text=True
        )

    def deploy(self, argument: str) -> tuple[int, str]:
        """Run the script; return its exit code and what it said."""
        process = self.start(argument)
        said = process.communicate(timeout=120)[1]
        return process.returncode, said

    def served(self) -> str:
        """Return the version that answers on the host's port, or `nothing`."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=3) as answer:
                return str(answer.read().decode())
        except OSError:
            return "nothing"

    def container_id(self) -> str:
        return self.engine("inspect", "-f", "{{.Id}}", self.name)

    def containers(self) -> set[str]:
        names = self.engine("ps", "-a", "--format", "{{.Names}}").split()
        return {name.removeprefix(self.name) for name in names if name.startswith(self.name)}


@pytest.fixture
def host(engine: Engine, tmp_path: Path) -> Iterator[Host]:
    host = Host(engine, tmp_path)
    yield host
    for suffix in host.containers():
        engine("rm", "-f", host.name + suffix, check=False)


def test_deploying_replaces_keeps_the_way_back_and_goes_back(
    host: Host, small_image: Build
) -> None:
    assert host.deploy(small_image("one"))[0] == 0
    assert host.served() == "one"
    assert host.deploy(small_image("two"))[0] == 0
    assert host.served() == "two"
    assert host.containers() == {"", "-previous"}

    assert host.deploy("--rollback")[0] == 0
    assert host.served() == "one"
    assert host.deploy("--rollback")[0] == 0
    assert host.served() == "two"
    assert host.containers() == {"", "-previous"}


def test_the_same_image_again_changes_nothing_until_the_settings_change(
    host: Host, small_image: Build
) -> None:
    assert host.deploy(small_image("one"))[0] == 0
    first = host.container_id()
    code, said = host.deploy(small_image("one"))
    assert (code, host.container_id()) == (0, first)
    assert "running already" in said

    host.env_file.write_text("VERSION=configured\n")
    assert host.deploy(small_image("one"))[0] == 0
    assert host.container_id() != first
    assert host.served() == "configured"


@pytest.mark.parametrize(
    ("version", "status", "timeout_s", "reason"),
    [
        ("never-healthy", 503, "3", "did not answer /health"),
        ("crashes", 200, "60", "cannot load the model"),  # noticed at once, not after a minute
    ],
)
def test_an_image_that_does_not_come_up_never_stops_the_old_one(
    host: Host, small_image: Build, version: str, status: int, timeout_s: str, reason: str
) -> None:
    assert host.deploy(small_image("one"))[0] == 0
    before = host.container_id()
    host.env["HEALTH_TIMEOUT_S"] = timeout_s
    code, said = host.deploy(small_image(version, status))
    assert code == 1
    assert reason in said
    assert (host.container_id(), host.served()) == (before, "one")
    assert host.containers() == {""}


def test_a_container_that_fails_only_on_its_real_port_is_put_back(
    host: Host, small_image: Build
) -> None:
    assert host.deploy(small_image("one"))[0] == 0
    before = host.container_id()
    with socket.socket() as listener:  # the new settings name a port that is taken
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        host.env["CHEST_CT_PORT"] = f"127.0.0.1:{listener.getsockname()[1]}"
        code, said = host.deploy(small_image("two"))
    assert code == 1
    assert "putting the old container back" in said
    assert (host.container_id(), host.served()) == (before, "one")
    assert host.containers() == {""}


def test_a_first_deployment_that_fails_leaves_nothing_behind(
    host: Host, small_image: Build
) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", host.port))
        listener.listen()
        assert host.deploy(small_image("one"))[0] == 1
    assert host.containers() == set()


def test_an_image_that_cannot_be_pulled_changes_nothing(host: Host, small_image: Build) -> None:
    assert host.deploy(small_image("one"))[0] == 0
    before = host.container_id()
    code, said = host.deploy(f"127.0.0.1:{free_port()}/chest-cancer-app:missing")
    assert code == 3
    assert "could not pull" in said
    assert (host.container_id(), host.served()) == (before, "one")


@pytest.mark.slow
def test_a_terminated_deployment_puts_the_old_container_back(
    host: Host, small_image: Build
) -> None:
    assert host.deploy(small_image("one"))[0] == 0
    before = host.container_id()
    process = host.start(small_image("never-healthy", 503))
    _wait_for(lambda: "-candidate" in host.containers())
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 1
    assert (host.container_id(), host.served()) == (before, "one")
    assert host.containers() == {""}


def test_a_killed_deployment_is_repaired_by_the_next_one(host: Host, small_image: Build) -> None:
    assert host.deploy(small_image("one"))[0] == 0
    # What SIGKILL between the two containers leaves behind.
    host.engine("stop", "-t", "5", host.name)
    host.engine("rename", host.name, f"{host.name}-old")
    code, said = host.deploy(small_image("crashes"))
    assert code == 1
    assert "cut off" in said
    assert host.served() == "one"
    assert host.containers() == {""}


@pytest.mark.slow
def test_two_deployments_do_not_run_at_once(host: Host, small_image: Build) -> None:
    process = host.start(small_image("never-healthy", 503))
    _wait_for(lambda: "-candidate" in host.containers())
    code, said = host.deploy(small_image("one"))
    assert code == 2
    assert "under way" in said
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert host.deploy(small_image("one"))[0] == 0


def test_without_its_settings_file_nothing_is_started(host: Host, small_image: Build) -> None:
    host.env_file.unlink()
    code, said = host.deploy(small_image("one"))
    assert code == 2
    assert str(host.env_file) in said
    assert host.containers() == set()


@pytest.mark.parametrize("arguments", [[], ["one", "two"], ["--force"], ["--help"]])
def test_wrong_usage_says_what_was_expected(arguments: list[str]) -> None:
    done = subprocess.run(["bash", str(SCRIPT), *arguments], capture_output=True, text=True)
    assert done.returncode == 2
    assert "IMAGE" in done.stderr or "expected an image" in done.stderr


def _wait_for(condition: Callable[[], bool], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)
