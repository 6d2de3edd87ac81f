"""A real S3 server (SeaweedFS) on loopback, with credentials enforced, for tests."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

ADMIN = ("AKTEST", "SKTEST")  # may do everything
READ_ONLY = ("AKRO", "SKRO")  # may read and list
IDENTITIES = {
    "identities": [
        {
            "name": "admin",
            "credentials": [{"accessKey": ADMIN[0], "secretKey": ADMIN[1]}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        },
        {
            "name": "read-only",
            "credentials": [{"accessKey": READ_ONLY[0], "secretKey": READ_ONLY[1]}],
            "actions": ["Read", "List"],
        },
    ]
}


def free_port() -> int:
    """Return a TCP port on 127.0.0.1 that is free, as is the port 10,000 above it (gRPC).

    Both lie below the ports that Linux gives to outgoing connections (32768 and up), so that no
    connection of another test takes them before the server listens.
    """
    while True:
        port = random.SystemRandom().randrange(12_000, 22_000)
        with socket.socket() as low, socket.socket() as high:
            try:
                low.bind(("127.0.0.1", port))
                high.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
        return port


@dataclass(frozen=True)
class S3Server:
    """Address of a running server; `env` is what a child process needs to reach it."""

    endpoint_url: str

    def env(self, credentials: tuple[str, str] = ADMIN) -> dict[str, str]:
        """Return the AWS variables for a client process with these credentials."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "MLFLOW_S3_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": credentials[0],
            "AWS_SECRET_ACCESS_KEY": credentials[1],
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self, credentials: tuple[str, str] = ADMIN) -> Any:
        """Return a boto3 S3 client."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            aws_access_key_id=credentials[0],
            aws_secret_access_key=credentials[1],
            region_name="us-east-1",
            config=Config(max_pool_connections=32),
        )


@contextlib.contextmanager
def running_s3_server(folder: Path, start_timeout_s: float = 60) -> Iterator[S3Server]:
    """Run SeaweedFS with its data under `folder` until the block ends."""
    process, server = start_s3_server(folder, start_timeout_s)
    try:
        yield server
    finally:
        _kill(process)


def start_s3_server(
    folder: Path, start_timeout_s: float = 60
) -> tuple[subprocess.Popen[bytes], S3Server]:
    """Start SeaweedFS, a group of processes of its own, and return it when it answers.

    Raises:
        RuntimeError: it does not answer in time; it is stopped, the message ends with its log.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "s3.json"
    config.write_text(json.dumps(IDENTITIES))
    data = folder / "data"
    data.mkdir(exist_ok=True)
    weed = shutil.which("weed") or str(Path(sys.executable).with_name("weed"))
    ports = {name: free_port() for name in ("master", "volume", "filer", "s3")}
    command = [
        weed, "-logtostderr", "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={data}",
        "-master.volumeSizeLimitMB=64", "-volume.max=100", "-master.telemetry=false",
        "-s3", f"-s3.config={config}", "-s3.port.iceberg=0", "-s3.port.lance=0",
        *(f"-{name}.port={port}" for name, port in ports.items()),
    ]  # fmt: skip
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=folder, start_new_session=True
        )
    endpoint = f"http://127.0.0.1:{ports['s3']}"
    try:
        _wait_until_answering(endpoint, process, start_timeout_s, folder / "server.log")
    except BaseException:
        _kill(process)
        raise
    return process, S3Server(endpoint)


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _wait_until_answering(
    endpoint: str, process: subprocess.Popen[bytes], timeout_s: float, log: Path
) -> None:
    deadline = time.monotonic() + timeout_s
    server = S3Server(endpoint)
    client = server.client()
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            urllib.request.urlopen(endpoint, timeout=2).close()
        except urllib.error.HTTPError:
            with contextlib.suppress(Exception):
                client.create_bucket(Bucket="ready-probe")
                client.put_object(Bucket="ready-probe", Key="probe", Body=b"ready")
                return
        except OSError:
            pass
        time.sleep(0.2)
    tail = log.read_text(errors="replace")[-2000:]
    raise RuntimeError(f"the S3 server did not answer at {endpoint} in {timeout_s} s:\n{tail}")
