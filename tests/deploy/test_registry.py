"""deploy.sh with a registry that wants a login, as Amazon ECR does.

The token comes from the real AWS CLI and moto's ECR; the registry is Docker's own, which knows
only that token.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.deploy.aws_account import running_aws_account
from tests.deploy.conftest import Engine
from tests.deploy.test_deploy_script import Host
from tests.s3_server import free_port

TOKEN = "123456789012-auth-token"  # what moto's ECR gives to everybody
# bcrypt of TOKEN, the one kind of password that the registry takes
HTPASSWD = "AWS:$2b$05$PqGMgjhxfU33i/lmlkH.7.avbH0faaauB9X8eRerMcAhnZoLWNo9W\n"


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """Address of a running registry that lets in who has moto's token."""
    program = shutil.which("docker-registry") or shutil.which("registry")
    if not program:
        pytest.skip("docker-registry is not on PATH (Debian's package of that name)")
    address = f"127.0.0.1:{free_port()}"
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    (tmp_path / "registry.yaml").write_text(
        "version: 0.1\nlog: {level: error}\n"
        f"storage: {{filesystem: {{rootdirectory: {tmp_path / 'images'}}}}}\n"
        f"http: {{addr: '{address}'}}\n"
        f"auth: {{htpasswd: {{realm: test, path: {tmp_path / 'htpasswd'}}}}}\n"
    )
    process = subprocess.Popen(
        [program, "serve", str(tmp_path / "registry.yaml")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                urllib.request.urlopen(f"http://{address}/v2/", timeout=2).close()
            except urllib.error.HTTPError as error:
                assert error.code == 401
                break
            except OSError:
                assert time.monotonic() < deadline, "the registry did not answer"
                time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def host(
    engine: Engine, registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Host]:
    """A host that may speak plain HTTP to the registry, as Docker does to loopback by itself."""
    (tmp_path / "registries.conf").write_text(
        f'[[registry]]\nlocation = "{registry}"\ninsecure = true\n'
    )
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(tmp_path / "registries.conf"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    host = Host(engine, tmp_path)
    yield host
    for suffix in host.containers():
        engine("rm", "-f", host.name + suffix, check=False)


@pytest.fixture
def pushed(
    engine: Engine, registry: str, small_image: Callable[..., str], tmp_path: Path
) -> Iterator[str]:
    """Name of an image that is in the registry and not on this host."""
    name = f"{registry}/chest-cancer-app:3f2c1ab"
    login = tmp_path / "push-login"
    login.mkdir()
    (login / "config.json").write_text("{}")
    env = os.environ | {"DOCKER_CONFIG": str(login), "REGISTRY_AUTH_FILE": f"{login}/config.json"}

    def run(*arguments: str) -> None:
        done = subprocess.run([engine.tool, *arguments], env=env, input=TOKEN, text=True,
                              capture_output=True)  # fmt: skip
        assert done.returncode == 0, done.stderr

    run("login", "--username", "AWS", "--password-stdin", registry)
    run("tag", small_image("pushed"), name)
    run("push", "-q", name)
    run("rmi", name)
    yield name
    engine("rmi", "-f", name, check=False)


def test_it_signs_in_pulls_and_leaves_no_token_behind(
    host: Host, registry: str, pushed: str, tmp_path: Path
) -> None:
    with running_aws_account() as account:
        names = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION")
        host.env |= {name: account[name] for name in names}
        host.env |= {"AWS_ECR_LOGIN_URI": registry}
        code, said = host.deploy(pushed)
    assert (code, host.served()) == (0, "pushed"), said
    assert TOKEN not in said
    kept = [
        path
        for path in tmp_path.rglob("*")
        if path.is_file() and b"QVdT" in path.read_bytes() and "push-login" not in path.parts
    ]  # "AWS:" in base64, as logins are stored
    assert not kept


def test_without_a_login_nothing_changes(host: Host, registry: str, pushed: str) -> None:
    code, said = host.deploy(pushed)
    assert code == 3
    assert "could not pull" in said
    host.env |= {"AWS_ECR_LOGIN_URI": registry, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    host.env |= {"AWS_REGION": "eu-central-1", "AWS_MAX_ATTEMPTS": "1"}
    host.env |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    if shutil.which("aws"):
        code, said = host.deploy(pushed)
        assert code == 3
        assert "could not sign in" in said
    assert host.containers() == set()
