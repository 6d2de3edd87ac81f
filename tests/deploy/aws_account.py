"""An AWS account on loopback (moto), reached by the real AWS CLI."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from tests.s3_server import free_port


@contextlib.contextmanager
def running_aws_account() -> Iterator[dict[str, str]]:
    """Run moto's server; give the environment of a shell signed in to it."""
    if not shutil.which("aws"):
        pytest.skip("the AWS CLI (aws) is not on PATH")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-p", str(port)],
        env=os.environ | {"MOTO_IAM_LOAD_MANAGED_POLICIES": "true"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{url}/moto-api/", timeout=2).close()
                break
            except OSError:
                assert process.poll() is None, "moto's server stopped"
                assert time.monotonic() < deadline, "moto's server did not answer"
                time.sleep(0.3)
        yield os.environ | {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "eu-central-1",
            "AWS_DEFAULT_REGION": "eu-central-1",
            "AWS_PAGER": "",
        }
    finally:
        process.terminate()
        process.wait()
