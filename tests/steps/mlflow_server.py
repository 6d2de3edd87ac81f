"""A real MLflow server with basic auth, a SQLite database and artefacts on S3, for tests."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import mlflow
import pytest
import requests

from tests.fork_server import ForkServer
from tests.s3_server import S3Server, free_port

ADMIN, ADMIN_PASSWORD = "admin", "correct horse battery"
START_TIMEOUT_S = 300


def no_tracking_uri(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a test set MLflow's tracking URI, and have what was before put back, set or not.

    `mlflow.set_tracking_uri` keeps it in the module and in a variable; once it is set, the variable
    alone, which other tests of this process change, no longer counts.
    """
    monkeypatch.setattr(mlflow.tracking._tracking_service.utils, "_tracking_uri", None)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@dataclass
class MlflowServer:
    """A server that can be killed and started again on its port and data."""

    folder: Path
    s3: S3Server
    bucket: str
    forks: ForkServer  # starts the clients
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        """Return the tracking URI."""
        return f"http://127.0.0.1:{self.port}"

    def env(self, user: str = ADMIN, password: str = ADMIN_PASSWORD) -> dict[str, str]:
        """Return the variables that a client needs, and no more."""
        return {
            "MLFLOW_TRACKING_URI": self.uri,
            "MLFLOW_TRACKING_USERNAME": user,
            "MLFLOW_TRACKING_PASSWORD": password,
        }

    def start(self) -> None:
        """Start the server and wait until it answers."""
        ini = self.folder / "basic_auth.ini"
        ini.write_text(
            "[mlflow]\ndefault_permission = READ\n"
            f"database_uri = sqlite:///{self.folder}/auth.db\n"
            f"admin_username = {ADMIN}\nadmin_password = {ADMIN_PASSWORD}\n"
            "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
            "auth_cache_ttl_seconds = 60\n"
        )
        environment = os.environ | self.s3.env() | {
            "MLFLOW_AUTH_CONFIG_PATH": str(ini),
            "MLFLOW_FLASK_SERVER_SECRET_KEY": "for tests only",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }  # fmt: skip
        command = [
            sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", "--workers", "1",
            "--host", "127.0.0.1", "--port", str(self.port),
            "--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db",
            "--artifacts-destination", f"s3://{self.bucket}/artifacts",
        ]  # fmt: skip
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self.folder, env=environment,
                start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                urllib.request.urlopen(f"{self.uri}/health", timeout=2).close()
                return
            except OSError:
                time.sleep(0.2)
        self.kill()
        tail = (self.folder / "server.log").read_text(errors="replace")[-2000:]
        raise RuntimeError(f"the MLflow server did not start:\n{tail}")

    def kill(self) -> None:
        """Kill the server and its workers, as a crash would."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def add_user(self, name: str, password: str) -> None:
        """Create a user, who may read everything."""
        self._ask("2.0/mlflow/users/create", username=name, password=password)

    def grant(self, user: str, kind: str, resource: str, permission: str) -> None:
        """Give a user a permission on a registered model or an experiment."""
        self._ask(
            "3.0/mlflow/users/permissions/grant",
            username=user, resource_type=kind, resource_id=resource, permission=permission,
        )  # fmt: skip

    def _ask(self, path: str, **body: str) -> None:
        answer = requests.post(
            f"{self.uri}/api/{path}", json=body, auth=(ADMIN, ADMIN_PASSWORD), timeout=30
        )
        assert answer.ok, f"{path}: {answer.status_code} {answer.text}"


@contextlib.contextmanager
def running_mlflow_server(folder: Path, s3: S3Server, forks: ForkServer) -> Iterator[MlflowServer]:
    """Run a server with its artefacts in a new bucket until the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    bucket = f"mlflow-{uuid4().hex[:8]}"
    s3.client().create_bucket(Bucket=bucket)
    server = MlflowServer(folder, s3, bucket, forks)
    server.start()
    try:
        yield server
    finally:
        server.kill()
