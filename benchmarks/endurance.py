"""Load a server for an hour with good, bad and hostile requests, in limited memory.

    python -m benchmarks.endurance --model artifacts/training/model --minutes 60

Eight clients, each at an address of its own, send 70 % good requests, 20 % mistakes and 10 %
requests made to break the server, which may use 1 GiB. Each good answer is compared with the one
that a single client got before. The table goes to standard output as Markdown; the exit code is 1
if anything that should hold does not.
"""

from __future__ import annotations

import contextlib
import http.client
import random
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import click
import numpy as np
import psutil

from benchmarks.endurance_requests import Request, bad, good, hostile
from benchmarks.serving import ROOT, free_port

SHARES = {"good": 0.7, "bad": 0.2, "hostile": 0.1}
CLIENT_TIMEOUT_S = 120
SAMPLE_S = 2
MEMORY_GROWTH = 1.15  # the last quarter's median over the second quarter's
DESCRIPTOR_GROWTH = 16
CGROUPS = Path("/sys/fs/cgroup")


@dataclass
class Results:
    """What was observed. Several clients write to it."""

    statuses: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    faults: Counter[str] = field(default_factory=Counter)
    memory_mib: list[float] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, kind: str, status: str, took_s: float, fault: str | None) -> None:
        """Add one request."""
        with self.lock:
            self.statuses[kind][status] += 1
            self.seconds[kind].append(took_s)
            if fault:
                self.faults[fault] += 1


@contextmanager
def memory_limit(process: psutil.Process, limit_bytes: int) -> Iterator[str]:
    """Limit a process's memory until the block ends; yields how.

    A control group kills the process as a container would. Where none can be made, a thread looks
    at the resident memory ten times a second and does the same.
    """
    for root, limit in ((CGROUPS, "memory.max"), (CGROUPS / "memory", "memory.limit_in_bytes")):
        group = root / f"chest-ct-endurance-{process.pid}"
        try:
            group.mkdir()
            if not (group / limit).exists():  # a folder that is no control group
                raise FileNotFoundError(group / limit)
            (group / limit).write_text(str(limit_bytes))
            (group / "cgroup.procs").write_text(str(process.pid))
        except OSError:
            with contextlib.suppress(OSError):
                group.rmdir()
            continue
        try:
            yield f"a control group ({limit})"
        finally:
            process.terminate()
            psutil.wait_procs([process], 30)
            with contextlib.suppress(OSError):
                group.rmdir()
        return
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.1) and process.is_running():
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.memory_info().rss > limit_bytes:
                    process.kill()

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield "its resident memory, looked at every 0.1 s"
    finally:
        done.set()


@contextmanager
def running_server(model: Path, port: int, log: Path) -> Iterator[psutil.Process]:
    """Run a server with its usual limits; it answers when the block begins."""
    command = [sys.executable, "-m", "serve", "--model-uri", str(model), "--port", str(port)]
    with log.open("wb") as file:
        process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file)
    try:
        while "Ready on" not in log.read_text():
            if process.poll() is not None:
                raise click.ClickException(f"the server did not start:\n{log.read_text()}")
            time.sleep(0.1)
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(90)


def send(request: Request, port: int, address: str) -> tuple[int, bytes]:
    """Return the status and the body of an answer; 0 after hanging up."""
    source = (address, 0)
    if request.raw or request.hang_up_after_s is not None:
        return send_raw(request, port, source)
    connection = http.client.HTTPConnection("127.0.0.1", port, CLIENT_TIMEOUT_S, source)
    try:
        connection.request("POST", request.path, request.body, request.headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def send_raw(request: Request, port: int, source: tuple[str, int]) -> tuple[int, bytes]:
    """Send bytes as they are; hang up in time, or read to the end."""
    sent = request.raw
    if not sent:
        lines = [f"POST {request.path} HTTP/1.1", "Host: localhost"]
        lines += [f"{name}: {value}" for name, value in request.headers.items()]
        lines += [f"Content-Length: {len(request.body)}", "", ""]
        sent = "\r\n".join(lines).encode() + request.body
    with socket.create_connection(("127.0.0.1", port), CLIENT_TIMEOUT_S, source) as client:
        client.sendall(sent)
        if request.hang_up_after_s is not None:
            time.sleep(request.hang_up_after_s)
            return 0, b""
        received = b""
        while part := client.recv(65536):
            received += part
    return int(received.split(b" ", 2)[1]), received.partition(b"\r\n\r\n")[2]


def fault_of(request: Request, status: int, body: bytes, expected: bytes | None) -> str | None:
    """Return what is wrong with an answer, or None; no place (503) is an answer to anything."""
    if status == 503 or (status == 0 and request.hang_up_after_s is not None):
        return None
    if status not in request.statuses:
        return f"{request.name}: expected {request.statuses}, received {status}"
    if expected is not None and body != expected:
        return f"{request.name}: another answer than the single client's"
    if status >= 400 and (b'"error_code"' not in body or b'"message"' not in body):
        return f"{request.name}: {status} without the documented form"
    return None


def client(
    number: int,
    port: int,
    kinds: dict[str, list[Request]],
    expected: dict[int, bytes],
    until: float,
    results: Results,
) -> None:
    """Send requests until the time is over, each of a kind drawn by its share."""
    draw = random.Random(number)
    address = f"127.0.0.{number + 2}"
    while time.monotonic() < until:
        (kind,) = draw.choices(list(SHARES), list(SHARES.values()))
        request = draw.choice(kinds[kind])
        started = time.perf_counter()
        try:
            status, body = send(request, port, address)
            fault = fault_of(request, status, body, expected.get(id(request)))
        except (OSError, http.client.HTTPException) as error:
            status, fault = -1, f"{request.name}: {type(error).__name__}"
        took_s = time.perf_counter() - started
        results.note(kind, str(status or "hung up"), took_s, fault)
        if status == 503:
            time.sleep(1)  # as Retry-After says
        if status == -1:
            time.sleep(0.2)


def sample(process: psutil.Process, until: float, results: Results) -> None:
    """Note memory and descriptors of the server until the time is over or it has ended."""
    while time.monotonic() < until and process.is_running():
        try:
            results.memory_mib.append(process.memory_info().rss / 2**20)
            results.descriptors.append(process.num_fds())
        except psutil.Error:
            return
        time.sleep(SAMPLE_S)


def verdicts(results: Results, alive: bool) -> dict[str, bool]:
    """Return what should hold, and whether it does."""
    quarter = max(1, len(results.memory_mib) // 4)
    second, last = slice(quarter, 2 * quarter), slice(-quarter, None)
    memory = [statistics.median(results.memory_mib[part]) for part in (second, last)]
    files = [statistics.median(results.descriptors[part]) for part in (second, last)]
    good_statuses = results.statuses["good"]
    return {
        "the server is alive": alive,
        "every answer is right": not results.faults,
        "no good request is refused but for the total limit": set(good_statuses) <= {"200", "503"},
        "no answer is a 500": not any(c["500"] for c in results.statuses.values()),
        f"memory is flat ({memory[0]:.0f} MiB, then {memory[1]:.0f})": memory[1]
        <= MEMORY_GROWTH * memory[0],
        f"descriptors are flat ({files[0]:.0f}, then {files[1]:.0f})": files[1]
        <= files[0] + DESCRIPTOR_GROWTH,
    }


def table(results: Results) -> str:
    """Return what was measured as Markdown."""
    lines = [
        "| requests | n | statuses | p50 ms | p95 ms | p99 ms |",
        "|---|---|---|---|---|---|",
    ]
    for kind in SHARES:
        times = results.seconds[kind] or [float("nan")]
        p50, p95, p99 = (1000 * float(np.percentile(times, p)) for p in (50, 95, 99))
        counts = ", ".join(f"{s}: {n}" for s, n in sorted(results.statuses[kind].items()))
        lines.append(f"| {kind} | {len(times)} | {counts} | {p50:.0f} | {p95:.0f} | {p99:.0f} |")
    memory, files = results.memory_mib, results.descriptors
    lines += [
        "",
        f"Resident memory: {memory[0]:.0f} MiB at the start, {max(memory):.0f} at most, "
        f"{memory[-1]:.0f} at the end. Descriptors: {files[0]}, {max(files)}, {files[-1]}.",
    ]
    return "\n".join(lines)


def single_client_answers(requests: list[Request], port: int) -> dict[int, bytes]:
    """Return the answer to each good request, by the request's id, asked by one client."""
    answers = {}
    for request in requests:
        status, body = send(request, port, "127.0.0.1")
        if status != 200:
            raise click.ClickException(f"{request.name}: {status} {body[:200]!r}")
        answers[id(request)] = body
    return answers


@click.command()
@click.option("--model", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--minutes", default=60.0, show_default=True, type=click.FloatRange(0.1))
@click.option("--clients", default=8, show_default=True, type=click.IntRange(1, 200))
@click.option("--memory-mib", default=1024, show_default=True, help="That the server may use.")
@click.option("--seed", default=0, show_default=True, help="Of scans and of the order.")
@click.option("--log", type=click.Path(path_type=Path), default=Path("endurance-server.log"))
def main(model: Path, minutes: float, clients: int, memory_mib: int, seed: int, log: Path) -> None:
    """Load a server and print the table."""
    kinds = {"good": good(seed), "bad": bad(seed), "hostile": hostile(seed)}
    port, results = free_port(), Results()
    with (
        running_server(model.resolve(), port, log) as server,
        memory_limit(server, memory_mib * 2**20) as limited_by,
    ):
        expected = single_client_answers(kinds["good"], port)
        until = time.monotonic() + 60 * minutes
        click.echo(f"{minutes:g} minutes, {clients} clients, limited by {limited_by}", err=True)
        with ThreadPoolExecutor(clients + 1) as pool:
            work = [pool.submit(sample, server, until, results)]
            work += [
                pool.submit(client, number, port, kinds, expected, until, results)
                for number in range(clients)
            ]
            for future in work:
                future.result()
        alive = server.is_running() and server.status() != psutil.STATUS_ZOMBIE
    click.echo(f"{minutes:g} minutes, {clients} clients, {memory_mib} MiB by {limited_by}\n")
    click.echo(table(results))
    held = verdicts(results, alive)
    click.echo("\n" + "\n".join(f"- {'holds' if ok else 'FAILS'}: {v}" for v, ok in held.items()))
    for fault, count in results.faults.most_common(20):
        click.echo(f"- {count} x {fault}")
    sys.exit(0 if all(held.values()) else 1)


if __name__ == "__main__":
    main()
