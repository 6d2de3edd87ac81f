"""The same job on two real executor processes, one of which is killed."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from batch.spark import TASKS_PER_SLOT
from tests.batch.conftest import ROOT, Bucket, Result, clean_environment, png
from tests.batch.fault_proxy import fault_proxy
from tests.batch.test_job import COLUMNS, save_model
from tests.stand_in_series import slice_png

MISSING = [
    name
    for name, there in (
        ("pyspark (pip install -r requirements-spark.txt)", importlib.util.find_spec("pyspark")),
        ("Java 17 (`java` on PATH)", shutil.which("java")),
    )
    if not there
]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"needs {' and '.join(MISSING)}"),
]

# As docs/batch.md reads them: summary.json lies beside the parts.
READ = """
import json, sys
from pyspark.sql import SparkSession

spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
rows = spark.read.parquet(sys.argv[1] + "/part-*.parquet")
counts = rows.selectExpr("count(*)", "count(label)", "count(error)").first()
print(json.dumps({"counts": list(counts), "types": rows.dtypes}))
"""
MASTER = "local-cluster[2,1,2048]"
OBJECTS = 400


def executors(driver: int) -> list[int]:
    """Return the executor processes below a driver process."""
    parent: dict[int, int] = {}
    backends = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            status = (entry / "stat").read_text().rpartition(")")[2].split()
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        parent[int(entry.name)] = int(status[1])
        if b"CoarseGrainedExecutorBackend" in command:
            backends.append(int(entry.name))

    def below(process: int) -> bool:
        while process in parent and process != driver:
            process = parent[process]
        return process == driver

    return [process for process in backends if below(process)]


def test_one_executor_killed_in_the_middle_costs_nothing_but_time(
    bucket: Bucket, tmp_path: Path
) -> None:
    loads = tmp_path / "loads"
    loads.mkdir()
    model = save_model(
        tmp_path,
        """
        import os, pathlib, time
        if not hasattr(self, "loaded"):
            self.loaded = True
            # One file per loaded model: its process and a counter.
            pathlib.Path(LOADS, f"{os.getpid()}-{time.monotonic_ns()}").touch()
        if any(image == b"kill" for image in model_input["image"]):
            os.kill(os.getpid(), 9)
        time.sleep(0.04 * len(model_input))
        return super().predict(context, model_input, params)
        """.replace("LOADS", repr(str(loads))),
    )
    bucket.put({f"scans/{n:04d}.png": png(n) for n in range(OBJECTS)} | {"scans/bad": b"bad"})
    bucket.put({"scans/kills": b"kill"})
    scans = f"/{bucket.name}/scans/"
    killed = []
    with fault_proxy(bucket.server.endpoint_url) as proxy:
        process = start(bucket, tmp_path, proxy.endpoint_url, model)

        def kill_one() -> None:
            while process.poll() is None and proxy.reads_of(scans) < OBJECTS // 3:
                time.sleep(0.05)
            for executor in executors(process.pid)[:1]:
                os.kill(executor, signal.SIGKILL)
                killed.append(executor)

        killer = threading.Thread(target=kill_one)
        killer.start()
        out, err = process.communicate(timeout=900)
        killer.join()
        reads = proxy.reads_of(scans)
        result = Result(process.returncode, out, err)
        assert killed, "an executor must have been killed"
        assert result.code == 1, err
        assert "Traceback" not in err

        table = bucket.table("scores/")
        assert table.column_names == COLUMNS
        assert table.num_rows == len(set(table["uri"].to_pylist())) == OBJECTS + 2
        assert table["error"].null_count == OBJECTS
        assert result.summary["rows"] == result.summary["objects_listed"] == OBJECTS + 2
        assert result.summary["engine"] == "spark"
        assert result.summary["errors"]["model_died"] == 1
        assert not bucket.names("scores/_journal/")
        # What the lost executor had not written is read again: at most its tasks' windows.
        assert OBJECTS + 2 <= reads <= OBJECTS + 2 + 2 * OBJECTS // TASKS_PER_SLOT
        per_process = [file.name.partition("-")[0] for file in loads.iterdir()]
        # One process on the driver, one a worker, and another after one has died: each loads once.
        assert len(per_process) == len(set(per_process))
        assert len(per_process) >= 3

    # The resume rule is the same, on either engine.
    bucket.put({"scans/new.png": png(9)})
    again = subprocess.run(
        command(bucket, model), env=clean_environment(tmp_path, **bucket.server.env()), cwd=ROOT,
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    summary = Result(again.returncode, again.stdout, again.stderr).summary
    assert (summary["engine"], summary["objects_read"]) == ("local", 1)
    assert summary["rows"] == OBJECTS + 3


def test_a_cluster_makes_the_series_table_that_one_machine_makes(
    tmp_path: Path, series_model: Path
) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    for n in range(60):
        (scans / f"{n:02d}").write_bytes(slice_png(f"1.{n % 5}", float(n), 4 * n))
    tables = []
    for engine in (("spark", "--master", "local-cluster[2,1,2048]"), ("local",)):
        out = tmp_path / engine[0]
        done = subprocess.run(
            [sys.executable, "-m", "batch", str(scans), str(out), "--model-uri", str(series_model),
             "--no-tracking", "--engine", *engine],
            env=clean_environment(
                tmp_path, SPARK_LOCAL_IP="127.0.0.1", SPARK_LOCAL_HOSTNAME="localhost",
                SPARK_WORKER_DIR=str(tmp_path / "spark-work"),
            ),
            cwd=ROOT, capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["series"] == 5
        tables.append(pq.read_table(out / "series/part-00000.parquet").drop(["slices_digest"]))
    assert tables[0].equals(tables[1])


def test_spark_reads_the_parts_whatever_they_hold(two_parts: Path, tmp_path: Path) -> None:
    read = subprocess.run(
        [sys.executable, "-c", READ, str(two_parts)], env=clean_environment(tmp_path),
        capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    found = json.loads(read.stdout)
    assert found["counts"] == [8, 4, 4]
    types = dict(found["types"])
    assert list(types) == COLUMNS
    assert types["label"] == types["error"] == "string"
    assert types["probability"] == "double"
    assert types["last_modified"] == types["scored_at"] == "timestamp"


def command(bucket: Bucket, model: Path, *options: str) -> list[str]:
    """Return the command line."""
    return [
        sys.executable, "-m", "batch", f"s3://{bucket.name}/scans/", f"s3://{bucket.name}/scores/",
        "--model-uri", str(model), "--no-tracking", *options,
    ]  # fmt: skip


def start(bucket: Bucket, tmp_path: Path, endpoint_url: str, model: Path) -> subprocess.Popen[str]:
    """Start the job on a small cluster."""
    environment = clean_environment(
        tmp_path,
        **bucket.server.env()
        | {
            "AWS_ENDPOINT_URL": endpoint_url,
            "SPARK_LOCAL_IP": "127.0.0.1",
            "SPARK_LOCAL_HOSTNAME": "localhost",
            "SPARK_WORKER_DIR": str(tmp_path / "spark-work"),
        },
    )
    return subprocess.Popen(
        command(bucket, model, "--engine", "spark", "--master", MASTER),
        env=environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
