"""The job killed at random moments and started again until it finishes."""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.batch.fault_proxy import Proxy
from tests.stand_in_model import CODE, signature

SEED = 20261101
START_S = 180


def save_slow_model(folder: Path, seconds_per_scan: float) -> Path:
    """Save the stand-in so that each scan takes a while, as a network would.

    A scan whose bytes begin with `kill` ends the process that scores it.
    """
    import mlflow

    code = folder / "slow_stand_in.py"
    slow = CODE.replace("def score(image):", "def score(image):\n    wait_or_die(image)")
    code.write_text(
        "import os\nimport time\n\n\ndef wait_or_die(image):\n"
        f"    time.sleep({seconds_per_scan})\n"
        "    if image[:4] == b'kill':\n        os.kill(os.getpid(), 9)\n\n\n" + slow
    )
    path = folder / "model"
    mlflow.pyfunc.save_model(
        str(path), python_model=str(code), signature=signature(), pip_requirements=["mlflow"]
    )
    return path


@dataclass(frozen=True)
class Killed:
    """What it took to finish."""

    exit_code: int | None
    attempts: int
    kills: int
    while_reading: int  # kills that met a job which had begun to read
    reads: int


def finish_despite_kills(
    arguments: list[str],
    environment: dict[str, str],
    proxy: Proxy,
    scans: str,
    folder: Path,
    *,
    kills: int,
    span_s: float,
    seed: int = SEED,
) -> Killed:
    """Run the command until it has been killed so many times, then let it finish.

    Args:
        arguments: of the command.
        environment: of the process; its S3 endpoint is `proxy`.
        scans: path of the input at the proxy, `/bucket/prefix/`.
        folder: gets the last attempt's standard output and error, `out` and `err`.
        kills: how many.
        span_s: a kill comes at a random moment of this time after an attempt has begun to read.
        seed: of those moments.
    """
    generator = random.Random(seed)
    # Importing MLflow takes seconds of processor time, so the processes are forked from one that
    # has done so. Each is a process of its own and dies of SIGKILL.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["boto3", "batch.job"])
    done, attempts, while_reading = 0, 0, 0
    while True:
        attempts += 1
        if attempts > 4 * kills + 4:
            raise AssertionError(f"{attempts} attempts for {done} kills")
        before = proxy.reads_of(scans)
        process = context.Process(target=_run, args=(environment, arguments, str(folder)))
        process.start()
        if done < kills:
            # One kill in five at any moment of the start, the others while scans are read, scored
            # and written.
            if generator.random() < 0.2:
                process.join(generator.uniform(0, 3))
            else:
                _wait_for_a_read(process, proxy, scans, before)
                process.join(generator.uniform(0, span_s))
            if process.is_alive():
                process.kill()
                process.join()
                done += 1
                while_reading += proxy.reads_of(scans) > before
                continue
        process.join(START_S + 60 * len(arguments))
        if done >= kills or process.exitcode not in (0, 1):
            return Killed(process.exitcode, attempts, done, while_reading, proxy.reads_of(scans))


def _wait_for_a_read(process: BaseProcess, proxy: Proxy, scans: str, before: int) -> None:
    deadline = time.monotonic() + START_S
    while proxy.reads_of(scans) == before and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.005)


def _run(environment: dict[str, str], arguments: list[str], folder: str) -> None:
    """Run the command in this process, which was forked with the libraries loaded."""
    os.environ.clear()
    os.environ.update(environment)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{folder}/{name}", os.O_CREAT | os.O_WRONLY | os.O_TRUNC), number)
    from batch.__main__ import main

    main(arguments)
