"""Decode tens of thousands of damaged and hostile files in processes that may take little.

python -m benchmarks.hostile

Each input must end as grey levels or as a ScanError, within 5 s of processor time and 600 MB,
with nothing quoted from the file and nothing written to standard output or error.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import click

from benchmarks.hostile_inputs import SECRET, damaged
from benchmarks.hostile_kinds import KINDS, NEVER_SCORED

MAX_BYTES = 600 * 10**6
MAX_CPU_S = 5
ROOT = Path(__file__).resolve().parents[1]


@dataclass
class Outcome:
    """What became of one input."""

    name: str
    result: str = "lost"  # grey, refused, or what went wrong
    cpu_s: float = 0.0
    peak_bytes: int = 0
    faults: list[str] = field(default_factory=list)


def inputs(count: int, seed: int, kinds: bool = True) -> Iterator[tuple[str, int]]:
    """Name every input: the hand-made kinds, then damaged files by index."""
    for name in KINDS if kinds else ():
        yield name, -1
    for index in range(count):
        yield f"damaged, seed {seed}", index


def peak_bytes(reset: bool = False) -> int:
    """Return this process's largest resident size since the last reset (Linux)."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
        return 0
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def limit_memory(max_bytes: int | None) -> None:
    """Let this process have no more than so many bytes of data."""
    limit = resource.RLIM_INFINITY if max_bytes is None else max_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.RLIM_INFINITY))


def decode_one(kind: str, index: int, seed: int, log: list[str], printed: Path) -> Outcome:
    """Decode one input in this process and note all that is not as it should be."""
    from model.decoding.errors import ScanError
    from model.decoding.scan_file import decode

    limit_memory(None)  # for making the file
    name, data = damaged(index, seed) if index >= 0 else (kind, KINDS[kind]())
    limit_memory(MAX_BYTES)
    outcome = Outcome(name.split()[0] if index >= 0 else kind)
    log.clear()
    printed_bytes = printed.stat().st_size
    peak_bytes(reset=True)
    used_s = time.process_time()
    resource.setrlimit(resource.RLIMIT_CPU, (int(used_s) + MAX_CPU_S + 2, resource.RLIM_INFINITY))
    said = ""
    try:
        scan = decode(data)
        outcome.result, said = "grey", f"{scan.mode} {scan.format}"
        if kind in NEVER_SCORED:
            outcome.faults.append("scored though it should not be")
        if scan.grey.ndim != 2 or scan.grey.dtype != "uint8":
            outcome.faults.append("no grey levels")
    except ScanError as error:
        outcome.result, said = "refused", str(error)
        if error.__cause__ is not None or error.__context__ is not None:
            outcome.faults.append("an error with a cause that could quote the file")
        if not said.startswith("Expected ") or not said.endswith(".") or len(said) > 300:
            outcome.faults.append("no sentence")
    except BaseException as error:
        outcome.result = type(error).__name__
        outcome.faults.append(f"{type(error).__name__} instead of ScanError")
    outcome.cpu_s, outcome.peak_bytes = time.process_time() - used_s, peak_bytes()
    sys.stderr.flush()
    if outcome.cpu_s > MAX_CPU_S:
        outcome.faults.append(f"{outcome.cpu_s:.1f} s")
    if outcome.peak_bytes > MAX_BYTES:
        outcome.faults.append(f"{outcome.peak_bytes / 1e6:.0f} MB")
    if log:
        outcome.faults.append(f"a warning or log line: {log[0][:80]}")
    if printed.stat().st_size > printed_bytes:
        outcome.faults.append("printed")
    if any(part in text for part in SECRET.split("^") for text in (said, *log)):
        outcome.faults.append("quoted the file")
    return outcome


def work(start: int, stop: int, count: int, seed: int, kinds: bool) -> None:
    """Decode inputs START to STOP, a JSON line each on the standard output that was."""
    answers = os.fdopen(os.dup(1), "w")
    printed = Path(tempfile.mkstemp(prefix="hostile")[1])
    with printed.open("w") as target:
        os.dup2(target.fileno(), 1)
        os.dup2(target.fileno(), 2)
    log: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: log.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    for logger in ("PIL", "pydicom", "imagecodecs"):
        logging.getLogger(logger).setLevel(logging.DEBUG)
    warnings.simplefilter("always")
    warnings.showwarning = lambda message, *_args, **_more: log.append(str(message))
    for position, (kind, index) in enumerate(inputs(count, seed, kinds)):
        if start <= position < stop:
            print(json.dumps({"start": position}), file=answers, flush=True)
            outcome = decode_one(kind, index, seed, log, printed)
            print(json.dumps(outcome.__dict__), file=answers, flush=True)
    printed.unlink()


def outcomes(start: int, stop: int, count: int, seed: int, kinds: bool) -> list[Outcome]:
    """Run `work` in a process, and in another one from the next input on if one dies."""
    found: list[Outcome] = []
    names = [kind if index < 0 else f"input {index}" for kind, index in inputs(count, seed, kinds)]
    while start < stop:
        command = [sys.executable, "-m", "benchmarks.hostile", "--count", str(count)]
        command += ["--seed", str(seed), "--kinds" if kinds else "--no-kinds"]
        command += ["--worker", str(start), str(stop)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        found += [Outcome(**line) for line in lines if "start" not in line]
        begun = [line["start"] for line in lines if "start" in line]
        if done.returncode == 0:
            break
        if not begun:
            raise click.ClickException(f"A worker ended before its first input: {done.stderr}")
        start = begun[-1] + 1
        ended = done.returncode
        reason = signal.Signals(-ended).name if ended < 0 else f"exit code {ended}"
        found.append(Outcome(names[begun[-1]], "died", faults=[f"the process died: {reason}"]))
    return found


def table(found: list[Outcome]) -> list[str]:
    """Return the table: inputs by format or kind, what became of them, and the most they took."""
    by_name: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in found:
        by_name[outcome.name].append(outcome)
    lines = [f"{'input':36} {'files':>6} {'grey':>6} {'refused':>7} {'other':>5} "
             f"{'CPU s':>6} {'MB':>5}"]  # fmt: skip
    for name, some in sorted(by_name.items(), key=lambda item: (len(item[1]) == 1, item[0])):
        results = Counter(outcome.result for outcome in some)
        grey, refused = results["grey"], results["refused"]
        lines.append(
            f"{name:36} {len(some):6} {grey:6} {refused:7} {len(some) - grey - refused:5} "
            f"{max(outcome.cpu_s for outcome in some):6.2f} "
            f"{max(outcome.peak_bytes for outcome in some) / 1e6:5.0f}"
        )
    return lines


@click.command()
@click.option("--count", default=40_000, show_default=True, help="Damaged files.")
@click.option("--seed", default=0, show_default=True, help="Of the damage.")
@click.option("--kinds/--no-kinds", default=True, show_default=True, help="The hand-made files.")
@click.option("--workers", default=2, show_default=True, help="Processes at a time.")
@click.option("--worker", nargs=2, type=int, hidden=True)
def main(count: int, seed: int, kinds: bool, workers: int, worker: tuple[int, int] | None) -> None:
    """Decode hostile files and print what became of them; exit code 1 if any broke a rule."""
    if worker:
        work(*worker, count, seed, kinds)
        return
    hand_made = len(KINDS) if kinds else 0
    total = hand_made + count
    # Small shares, since a process that dies starts again, and the hand-made kinds come first.
    edges = [*range(0, hand_made, 8), *range(hand_made, total, 2500), total]
    with ThreadPoolExecutor(workers) as pool:
        shares = pool.map(lambda edge: outcomes(*edge, count, seed, kinds), pairwise(edges))
        found = [outcome for share in shares for outcome in share]
    print("\n".join(table(found)))
    faults = [outcome for outcome in found if outcome.faults]
    for outcome in faults[:50]:
        print(f"FAULT {outcome.name}: {'; '.join(outcome.faults)}")
    print(f"{len(found)} inputs, {len(faults)} faults")
    if faults or len(found) != total:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
