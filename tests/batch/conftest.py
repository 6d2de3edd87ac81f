"""Buckets with scans, and the job run as a user runs it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from batch.model_process import ModelProcess
from batch.pyfunc import PinnedModel, pinned_model
from tests.s3_server import ADMIN, S3Server
from tests.session import Shared
from tests.stand_in_series import save_series_model

ROOT = Path(__file__).resolve().parents[2]


def png(seed: int, side_px: int = 24) -> bytes:
    """Return a small grey image whose bytes differ for each seed up to 65,535."""
    image = Image.new("L", (side_px, side_px), seed % 256)
    image.putpixel((0, 0), seed // 256 % 256)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@dataclass
class Bucket:
    """A bucket of the session's server."""

    name: str
    server: S3Server
    client: Any

    def put(self, objects: dict[str, bytes]) -> None:
        """Write objects, several at a time."""

        def put(item: tuple[str, bytes]) -> None:
            self.client.put_object(Bucket=self.name, Key=item[0], Body=item[1])

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(put, objects.items()))

    def names(self, prefix: str = "") -> list[str]:
        """Return all keys below a prefix."""
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.name, Prefix=prefix
        )
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def get(self, key: str) -> bytes:
        """Read one object."""
        data: bytes = self.client.get_object(Bucket=self.name, Key=key)["Body"].read()
        return data

    def table(self, prefix: str) -> pa.Table:
        """Return all rows of the parts below a prefix, and check that parts agree on types."""
        tables = [
            pq.read_table(io.BytesIO(self.get(key)))
            for key in self.names(prefix + "part-")
            if key.endswith(".parquet")
        ]
        assert len({str(table.schema) for table in tables}) == 1
        return pa.concat_tables(tables)


@pytest.fixture
def bucket(s3_server: S3Server) -> Iterator[Bucket]:
    """Yield a new, empty bucket, and give its volumes back to the server afterwards."""
    client = s3_server.client()
    made = Bucket(f"b-{uuid.uuid4().hex[:12]}", s3_server, client)
    client.create_bucket(Bucket=made.name)
    yield made
    keys = [{"Key": key} for key in made.names()]
    for start in range(0, len(keys), 1000):
        client.delete_objects(Bucket=made.name, Delete={"Objects": keys[start : start + 1000]})
    client.delete_bucket(Bucket=made.name)


@dataclass
class Result:
    """What a run of the job left: exit code, standard output, standard error."""

    code: int
    out: str
    err: str

    @property
    def summary(self) -> dict[str, Any]:
        """Return standard output, which is the summary."""
        parsed: dict[str, Any] = json.loads(self.out)
        return parsed


Run = Callable[..., Result]


def clean_environment(tmp_path: Path, **variables: str) -> dict[str, str]:
    """Return this environment without AWS or MLflow settings, with those given."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "MLFLOW_"))}
    return kept | {
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(tmp_path / "no-aws-config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "no-aws-credentials"),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
        "PYTHONPATH": str(ROOT),
        **variables,
    }


@pytest.fixture
def run_cli(s3_server: S3Server, tmp_path: Path) -> Run:
    """Return a function that runs `python -m batch` in a process of its own."""

    def run(
        *arguments: object,
        credentials: tuple[str, str] | None = ADMIN,
        timeout_s: float = 600,
        **variables: str,
    ) -> Result:
        reach = s3_server.env(credentials) if credentials else {}
        process = subprocess.run(
            [sys.executable, "-m", "batch", *map(str, arguments)],
            env=clean_environment(tmp_path, **(reach | variables)),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert "Traceback" not in process.stderr, process.stderr
        return Result(process.returncode, process.stdout, process.stderr)

    return run


@pytest.fixture(scope="session")
def stand_in_process(stand_in_model: Path) -> Iterator[ModelProcess]:
    """Yield the stand-in in one process for the whole session: starting one takes seconds."""
    with pinned_model(str(stand_in_model)) as pinned, ModelProcess(pinned) as process:
        yield process


@pytest.fixture(scope="session")
def series_model(shared: Shared) -> Path:
    """Return the folder of a stand-in that answers series."""
    return shared.once("stand_in_series", save_series_model) / "series-model"


@pytest.fixture(scope="session")
def series_process(series_model: Path) -> Iterator[ModelProcess]:
    """Yield the stand-in that answers series in one process for the whole session."""
    with pinned_model(str(series_model)) as pinned, ModelProcess(pinned) as process:
        yield process


@pytest.fixture
def run_here(
    s3_server: S3Server,
    stand_in_process: ModelProcess,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Return a function that runs the same command in this process, which starts at once."""
    keep_model(stand_in_process, monkeypatch)
    run = runner(tmp_path, monkeypatch, capsys)

    def run_with_s3(
        *arguments: object, credentials: tuple[str, str] = ADMIN, **variables: str
    ) -> Result:
        return run(*arguments, **(s3_server.env(credentials) | variables))

    return run_with_s3


@pytest.fixture
def run_series(
    series_process: ModelProcess,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Return a function that runs the command in this process, for a model that answers series."""
    keep_model(series_process, monkeypatch)
    return runner(tmp_path, monkeypatch, capsys)


def keep_model(kept: ModelProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let jobs in this process use a model that runs already, if it is the one they want."""

    @contextlib.contextmanager
    def model_process(pinned: PinnedModel) -> Iterator[ModelProcess]:
        if pinned.digest == kept.pinned.digest or pinned.folder == kept.pinned.folder:
            monkeypatch.setattr(kept, "pinned", pinned)
            yield kept
        else:
            with ModelProcess(pinned) as process:
                yield process

    monkeypatch.setattr("batch.job.ModelProcess", model_process)


def runner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Return a function that runs the command in this process with a clean environment."""
    from batch.__main__ import main

    def run(*arguments: object, **variables: str) -> Result:
        environment = clean_environment(tmp_path, **variables)
        with monkeypatch.context() as patch:
            for name in [k for k in os.environ if k not in environment]:
                patch.delenv(name)
            for name, value in environment.items():
                patch.setenv(name, value)
            capsys.readouterr()
            try:
                main([str(a) for a in arguments], standalone_mode=True)
                code = 0
            except SystemExit as stopped:
                code = int(stopped.code or 0)
            captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run


@pytest.fixture
def two_parts(
    tmp_path: Path, run_here: Run, stand_in_model: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Return an output of two parts: one holds only rows that failed, one only others."""
    monkeypatch.setattr("batch.table.output.ROWS_PER_PART", 4)
    scans = tmp_path / "scans"
    scans.mkdir()
    for n in range(8):
        (scans / f"{n}.png").write_bytes(b"bad" if n < 4 else png(n))
    command = (scans, tmp_path / "out", "--model-uri", stand_in_model, "--no-tracking")
    assert run_here(*command, "--workers", 1, "--batch-size", 1).code == 1
    return tmp_path / "out"
