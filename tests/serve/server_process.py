"""Real server processes for tests: `python -m serve` and `mlflow models serve`."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.s3_server import free_port

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 120


@dataclass
class ServerProcess:
    """A server that answers, and what it has written so far."""

    url: str
    port: int
    process: subprocess.Popen[bytes]
    log_file: Path

    def log(self) -> str:
        """Return what the server wrote to standard output and error."""
        return self.log_file.read_text()

    def logged(self, text: str) -> str:
        """Return the first log line with `text`; a line is written after its answer is sent."""
        for _ in range(100):
            for line in self.log().splitlines():
                if text in line:
                    return line
            time.sleep(0.05)
        raise AssertionError(f"{text!r} is not in the log:\n{self.log()}")


def wait_until_ready(server: ServerProcess) -> None:
    """Return when the server answers /ping; raise with its log if it ends or takes too long."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            raise RuntimeError(f"the server ended:\n{server.log()}")
        try:
            with urllib.request.urlopen(f"{server.url}/ping", timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
    raise RuntimeError(f"the server did not answer:\n{server.log()}")


@contextmanager
def running(
    command: list[str], port: int, log_file: Path, env: Mapping[str, str] | None = None
) -> Iterator[ServerProcess]:
    """Run a server until the block ends; stop it with SIGTERM."""
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=ROOT, env={**os.environ, **(env or {})}
        )
    server = ServerProcess(f"http://127.0.0.1:{port}", port, process, log_file)
    try:
        wait_until_ready(server)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def running_serve(
    model: Path | str,
    folder: Path,
    *options: str,
    env: Mapping[str, str] | None = None,
    port: int | None = None,
) -> Iterator[ServerProcess]:
    """Run `python -m serve` with the options given, on a free port unless one is named."""
    port = port or free_port()
    command = [sys.executable, "-m", "serve", "--model-uri", str(model), "--port", str(port)]
    with running([*command, *options], port, folder / f"serve-{port}.log", env) as server:
        yield server


@contextmanager
def running_mlflow(model: Path, folder: Path) -> Iterator[ServerProcess]:
    """Run `mlflow models serve` on a free port, in this environment."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(model)]
    command += ["--env-manager", "local", "--port", str(port)]
    with running(command, port, folder / f"mlflow-{port}.log") as server:
        yield server
