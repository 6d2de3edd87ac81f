"""Run the batch job as a user does, while what it is measured against takes turns with it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from tests.s3_server import S3Server

ROOT = Path(__file__).resolve().parents[1]
JOB_TURN_S = 6.0  # long beside the moment in which a paused job's requests are still answered


class Rival:
    """Something that the job is measured against, a turn of a few scans at a time."""

    def __init__(self, turn: Callable[[], int]) -> None:
        """Take a function that scores some scans and returns how many."""
        self._turn = turn
        self._scans, self._seconds = 0, 0.0

    def take_turn(self) -> None:
        """Score some scans and note the time."""
        started = time.monotonic()
        self._scans += self._turn()
        self._seconds += time.monotonic() - started

    @property
    def scans_per_s(self) -> float:
        """Over all turns."""
        return self._scans / self._seconds


@dataclass(frozen=True)
class Outcome:
    """What a job did. `scans_per_s` is its summary's, without the time in which it was paused.

    `series_share` is the part of the same time that places and series table took.
    """

    summary: dict[str, Any]
    scans_per_s: float
    series_share: float
    peak_bytes: int  # of the job and its model's process together


def run_job(
    server: S3Server | None,
    where: str,
    model_uri: str,
    *options: str,
    rivals: Sequence[Rival] = (),
    turn_s: float = JOB_TURN_S,
) -> Outcome:
    """Run the job on the scans below `where`.

    Args:
        rivals: every few seconds the job is paused (SIGSTOP) and each takes a turn, so that
            both sides of a ratio meet the same minutes of a machine whose speed drifts.
        turn_s: how long the job runs between two pauses.
    """
    command = [
        sys.executable, "-m", "batch", f"{where}/scans", f"{where}/scores-{uuid.uuid4().hex[:8]}",
        "--model-uri", model_uri, "--no-tracking", *options,
    ]  # fmt: skip
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | (server.env() if server else {}),
        stdout=subprocess.PIPE,
        start_new_session=True,  # a group that is paused as one: the job and its model's process
    )
    peak = [0]
    watch = threading.Thread(target=_watch_memory, args=(process, peak), daemon=True)
    watch.start()
    with ThreadPoolExecutor(1) as pool:
        said = pool.submit(_read_summary, process)
        pauses = list(_pauses(process, rivals, turn_s))
        text, ended = said.result()
    watch.join()
    if process.wait() not in (0, 1):
        raise click.ClickException(f"the job ended with {process.returncode}")
    summary = json.loads(text)
    seconds = summary["rows_written"] / summary["scans_per_s"]
    began = ended - seconds
    scored_s = seconds - _paused_s(pauses, began, ended)
    last = ended - summary["series_time_s"]
    series_s = summary["series_time_s"] - _paused_s(pauses, last, ended)
    return Outcome(summary, summary["rows_written"] / scored_s, series_s / scored_s, peak[0])


def _paused_s(pauses: Sequence[tuple[float, float]], begin: float, end: float) -> float:
    """Return how long the job stood still between two moments."""
    return sum(max(0.0, min(stop, end) - max(start, begin)) for start, stop in pauses)


def _read_summary(process: subprocess.Popen[bytes]) -> tuple[bytes, float]:
    """Return what the job prints, and when it began to."""
    assert process.stdout
    first = process.stdout.readline()
    now = time.monotonic()
    return first + process.stdout.read(), now


def _pauses(
    process: subprocess.Popen[bytes], rivals: Sequence[Rival], turn_s: float
) -> Iterator[tuple[float, float]]:
    """Let the rivals take turns while the job stands still; yield start and end of each pause."""
    while rivals:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(turn_s)
            return
        _signal_group(process, signal.SIGSTOP)
        start = time.monotonic()
        try:
            for rival in rivals:
                rival.take_turn()
        finally:
            end = time.monotonic()
            _signal_group(process, signal.SIGCONT)
        yield start, end


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has just ended
        os.killpg(process.pid, number)


def _watch_memory(process: subprocess.Popen[bytes], peak: list[int]) -> None:
    while process.poll() is None:
        members = [pid for pid in _processes() if _group_of(pid) == process.pid]
        peak[0] = max(peak[0], sum(map(_proportional_bytes, members)))
        time.sleep(0.2)


def _processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def _proportional_bytes(pid: int) -> int:
    """Return a process's resident memory; pages that several share are shared out among them."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
