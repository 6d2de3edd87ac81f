"""Killed at random moments, the job loses nothing and reads little twice."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import time
from pathlib import Path

from batch.settings import Concurrency
from tests.batch.conftest import Bucket, clean_environment, png
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


def run_batch(environment: dict[str, str], arguments: list[str], folder: str) -> None:
    """Run the command in this process, which was forked with the libraries loaded."""
    os.environ.clear()
    os.environ.update(environment)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{folder}/{name}", os.O_CREAT | os.O_WRONLY | os.O_TRUNC), number)
    from batch.__main__ import main

    main(arguments)


def test_twenty_kills_cost_no_row_and_at_most_a_window_of_reads_each(
    bucket: Bucket, tmp_path: Path
) -> None:
    bucket.put({f"scans/{n // 100}/{n:04d}.png": png(n) for n in range(OBJECTS)})
    model = save_slow_model(tmp_path, seconds_per_scan=0.012)
    generator = random.Random(SEED)
    scans = f"/{bucket.name}/scans/"
    # Importing MLflow takes seconds of processor time, so the processes are forked from one that
    # has done so. Each is a process of its own and dies of SIGKILL.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mlflow.pyfunc", "boto3", "batch.job"])
    kills, attempts, killed_while_reading = 0, 0, 0
    with fault_proxy(bucket.server.endpoint_url) as proxy:
        environment = clean_environment(
            tmp_path, **(bucket.server.env() | {"AWS_ENDPOINT_URL": proxy.endpoint_url})
        )
        arguments = [
            f"s3://{bucket.name}/scans/", f"s3://{bucket.name}/scores/",
            "--model-uri", str(model), "--no-tracking",
        ]  # fmt: skip
        while True:
            attempts += 1
            assert attempts < 4 * KILLS
            before = proxy.reads_of(scans)
            process = context.Process(
                target=run_batch, args=(environment, arguments, str(tmp_path))
            )
            process.start()
            if kills < KILLS:
                # One kill in five at any moment of the start, the others while scans are read,
                # scored and written.
                if generator.random() < 0.2:
                    process.join(generator.uniform(0, 1))
                else:
                    while proxy.reads_of(scans) == before and process.is_alive():
                        time.sleep(0.005)
                    process.join(generator.uniform(0, 0.6))
                if process.is_alive():
                    process.kill()
                    process.join()
                    kills += 1
                    killed_while_reading += proxy.reads_of(scans) > before
                    continue
            process.join(120)
            assert process.exitcode == 0, (tmp_path / "err").read_text()
            if kills >= KILLS:
                break
        reads = proxy.reads_of(scans)

    table = bucket.table("scores/")
    expected = {f"s3://{bucket.name}/{key}" for key in bucket.names("scans/")}
    assert killed_while_reading >= KILLS // 2, "most kills must meet a job that is scoring"
    assert len(expected) == OBJECTS
    assert table.num_rows == OBJECTS
    assert set(table["uri"].to_pylist()) == expected
    assert table["label"].null_count == 0
    assert reads <= OBJECTS + kills * Concurrency(batch_size=16, workers=16).window
    assert json.loads((tmp_path / "out").read_text())["rows"] == OBJECTS
    assert not bucket.names("scores/_journal/")
    assert not bucket.names("scores/_lock")
    assert bucket.names("scores/_SUCCESS")
    print(f"{kills} kills, {attempts} attempts, {reads} reads of {OBJECTS} objects")
