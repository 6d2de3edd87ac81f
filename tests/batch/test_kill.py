"""Killed at random moments, the job loses nothing and reads little twice."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from batch.pipeline import Pace
from tests.batch.conftest import ROOT, Bucket, clean_environment, png
from tests.batch.fault_proxy import fault_proxy
from tests.stand_in_model import CODE, signature

OBJECTS = 640
KILLS = 20
SEED = 20261101


def save_slow_model(folder: Path, seconds_per_scan: float) -> Path:
    """Save the stand-in so that each scan takes a while, as a network would."""
    import mlflow

    code = folder / "slow_stand_in.py"
    slow = CODE.replace("def score(image):", "def score(image):\n    time.sleep(SLOW)")
    code.write_text(f"import time\nSLOW = {seconds_per_scan}\n{slow}")
    path = folder / "model"
    mlflow.pyfunc.save_model(
        str(path), python_model=str(code), signature=signature(), pip_requirements=["mlflow"]
    )
    return path


def test_twenty_kills_cost_no_row_and_at_most_a_window_of_reads_each(
    bucket: Bucket, tmp_path: Path
) -> None:
    bucket.put({f"scans/{n // 100}/{n:04d}.png": png(n) for n in range(OBJECTS)})
    model = save_slow_model(tmp_path, seconds_per_scan=0.012)
    generator = random.Random(SEED)
    scans = f"/{bucket.name}/scans/"
    kills, attempts, scored_before_a_kill = 0, 0, 0
    with fault_proxy(bucket.server.endpoint_url) as proxy:
        environment = clean_environment(
            tmp_path, **(bucket.server.env() | {"AWS_ENDPOINT_URL": proxy.endpoint_url})
        )
        command = [
            sys.executable, "-m", "batch", f"s3://{bucket.name}/scans/",
            f"s3://{bucket.name}/scores/", "--model-uri", str(model), "--no-tracking",
        ]  # fmt: skip
        while True:
            attempts += 1
            assert attempts < 4 * KILLS
            before = proxy.reads_of(scans)
            process = subprocess.Popen(
                command, env=environment, cwd=ROOT, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            if kills < KILLS:
                # One kill in five at any moment of the start, the others while scans are read,
                # scored and written.
                if generator.random() < 0.2:
                    _wait(process, generator.uniform(0.1, 3))
                else:
                    while proxy.reads_of(scans) == before and process.poll() is None:
                        time.sleep(0.005)
                    _wait(process, generator.uniform(0, 0.6))
            if kills < KILLS and process.poll() is None:
                process.send_signal(signal.SIGKILL)
                kills += 1
                scored_before_a_kill += proxy.reads_of(scans) > before
                process.communicate()
                continue
            out, err = process.communicate(timeout=120)
            assert process.returncode == 0, err
            break
        reads = proxy.reads_of(scans)

    table = bucket.table("scores/")
    expected = {f"s3://{bucket.name}/{key}" for key in bucket.keys("scans/")}
    assert kills >= KILLS
    assert scored_before_a_kill >= KILLS // 2, "most kills must meet a job that is scoring"
    assert len(expected) == OBJECTS
    assert table.num_rows == OBJECTS
    assert set(table["uri"].to_pylist()) == expected
    assert table["label"].null_count == 0
    assert reads <= OBJECTS + kills * Pace(batch_size=16, workers=16).window
    assert f'"rows": {OBJECTS}' in out
    assert not bucket.keys("scores/_journal/")
    assert not bucket.keys("scores/_lock")
    assert bucket.keys("scores/_SUCCESS")
    print(f"{kills} kills, {attempts} attempts, {reads} reads of {OBJECTS} objects")


def _wait(process: subprocess.Popen[str], seconds: float) -> None:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return
