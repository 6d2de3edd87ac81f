"""Compare `python -m serve` with `mlflow models serve` and with the tutorial's Flask server.

    python -m benchmarks.serving --model artifacts/training/model \
        --scans artifacts/data_ingestion/scans --keras-model artifacts/training/model.keras

One server runs at a time, each with the same scans. For each, one client at a time and several:
latency percentiles and throughput; and once: time from start to the first answer, and memory.
One client's requests take turns with the bare network at batch 1, a few of each at a time, so that
a moment in which the machine is slow counts for both. Tables go to standard output as Markdown;
with --json the numbers go to a file as well.
"""

from __future__ import annotations

import base64
import http.client
import itertools
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
import psutil

from benchmarks.bare_network import BareNetwork

ROOT = Path(__file__).resolve().parents[1]
BOUNDARY = "chest-ct-benchmark"
START_TIMEOUT_S = 300
WARM_UP = 3
TURN = 20  # requests, then as many inferences of the bare network

Body = tuple[bytes, str]  # a request's body and its content type


@dataclass
class Contender:
    """One way of serving, and what was measured of it."""

    name: str
    command: list[str]
    path: str
    body_of: Callable[[bytes], Body]
    network_ratios: list[float] = field(default_factory=list)  # p50 / bare network, of each turn
    start_s: float = 0.0
    peak_mib: float = 0.0
    latencies_s: dict[int, list[float]] = field(default_factory=dict)  # by number of clients
    rows_per_s: dict[int, float] = field(default_factory=dict)


def as_records(scan: bytes) -> Body:
    """Return a scan as MLflow's JSON."""
    text = base64.b64encode(scan).decode()
    return json.dumps({"dataframe_records": [{"image": text}]}).encode(), "application/json"


def as_upload(scan: bytes) -> Body:
    """Return a scan as a multipart upload."""
    head = 'Content-Disposition: form-data; name="files"; filename="scan"'
    body = f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode() + scan + f"\r\n--{BOUNDARY}--\r\n".encode()
    return body, f"multipart/form-data; boundary={BOUNDARY}"


def as_tutorial(scan: bytes) -> Body:
    """Return a scan as the tutorial's JSON."""
    return json.dumps({"image": base64.b64encode(scan).decode()}).encode(), "application/json"


def free_port() -> int:
    """Return a TCP port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def ask(connection: http.client.HTTPConnection, path: str, body: Body) -> bytes:
    """Send one request and return its answer; raise if the answer is an error."""
    connection.request("POST", path, body[0], {"Content-Type": body[1]})
    answer = connection.getresponse()
    content = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"{path} answered {answer.status}: {content[:300]!r}")
    return content


@contextmanager
def running(contender: Contender, port: int, body: Body) -> Iterator[psutil.Process]:
    """Run a contender; its start is over when it has answered its first scan."""
    started = time.perf_counter()
    process = subprocess.Popen(
        contender.command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        while True:
            try:
                ask(
                    http.client.HTTPConnection("127.0.0.1", port, timeout=300), contender.path, body
                )
                break
            except OSError as error:
                if process.poll() is not None or time.perf_counter() - started > START_TIMEOUT_S:
                    raise RuntimeError(f"{contender.name} did not start") from error
                time.sleep(0.02)
        contender.start_s = time.perf_counter() - started
        yield psutil.Process(process.pid)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def peak_mib(process: psutil.Process) -> float:
    """Return the peak resident memory of a process and its children together, in MiB."""
    total = 0
    for one in (process, *process.children(recursive=True)):
        status = Path(f"/proc/{one.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        total += int(line.split()[1])
    return total / 1024


def load(port: int, contender: Contender, bodies: Sequence[Body], clients: int, n: int) -> None:
    """Send `n` requests from `clients` clients at once, and note how long each took."""
    bodies_in_turn = itertools.cycle(bodies)
    work = [next(bodies_in_turn) for _ in range(n)]

    def client(first: int) -> list[float]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
        took = []
        for body in work[first::clients]:
            started = time.perf_counter()
            ask(connection, contender.path, body)
            took.append(time.perf_counter() - started)
        connection.close()
        return took

    started = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        parts = list(pool.map(client, range(clients)))
    contender.rows_per_s[clients] = n / (time.perf_counter() - started)
    contender.latencies_s[clients] = sorted(itertools.chain(*parts))


def inference_s(network: BareNetwork, rounds: int) -> float:
    """Return the median time of an inference, in seconds."""
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        network.infer()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def take_turns(
    port: int, contender: Contender, bodies: Sequence[Body], n: int, network: BareNetwork
) -> None:
    """Measure one client's requests and the bare network in turns."""
    latencies: list[float] = []
    turn = min(TURN, n)
    for number in range(n // turn):
        first = number * turn % len(bodies)
        network_s = inference_s(network, turn)
        load(port, contender, [*bodies[first:], *bodies[:first]], 1, turn)
        latencies += contender.latencies_s[1]
        contender.network_ratios.append(statistics.median(contender.latencies_s[1]) / network_s)
    contender.latencies_s[1] = sorted(latencies)
    contender.rows_per_s[1] = len(latencies) / sum(latencies)


def pyfunc_s(model: Path, scans: Sequence[bytes], rounds: int) -> float:
    """Return the median time of one row through the loaded pyfunc, without HTTP, in seconds."""
    import mlflow.pyfunc
    import pandas as pd

    loaded = mlflow.pyfunc.load_model(str(model))
    times = []
    for _, scan in zip(range(WARM_UP + rounds), itertools.cycle(scans), strict=False):
        frame = pd.DataFrame({"image": pd.Series([scan], dtype=object)})
        started = time.perf_counter()
        loaded.predict(frame)
        times.append(time.perf_counter() - started)
    return statistics.median(times[WARM_UP:])


def percentile_ms(times_s: Sequence[float], percent: float) -> float:
    """Return a percentile of times, in milliseconds."""
    return float(np.percentile(times_s, percent)) * 1000


def tables(contenders: list[Contender], network_s: float, row_s: float) -> str:
    """Return what was measured as Markdown; ratios are to the first contender."""
    first = contenders[0]
    lines = [
        f"Bare network, batch 1: {1000 * network_s:.1f} ms. "
        f"One row through the pyfunc, no HTTP: {1000 * row_s:.1f} ms.",
        "",
        "| server | first answer after s | peak memory MiB | p50 at 1 client / bare network |",
        "|---|---|---|---|",
    ]
    for c in contenders:
        ratio = statistics.median(c.network_ratios) if c.network_ratios else np.nan
        lines.append(f"| {c.name} | {c.start_s:.1f} | {c.peak_mib:.0f} | {ratio:.2f} |")
    lines += [
        "",
        "| server | clients | n | p50 ms | p95 ms | p99 ms | scans/s | p50 ratio | scans/s ratio |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for c in contenders:
        for clients, times in c.latencies_s.items():
            p50, p95, p99 = (percentile_ms(times, percent) for percent in (50, 95, 99))
            slower = p50 / percentile_ms(first.latencies_s[clients], 50)
            rate = c.rows_per_s[clients]
            lines.append(
                f"| {c.name} | {clients} | {len(times)} | {p50:.1f} | {p95:.1f} | {p99:.1f} "
                f"| {rate:.2f} | {slower:.2f} | {rate / first.rows_per_s[clients]:.2f} |"
            )
    return "\n".join(lines)


def read_scans(folder: Path, most: int) -> list[bytes]:
    """Return the bytes of up to `most` files under a folder, evenly spread over their names."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if not files:
        raise click.UsageError(f"Expected scans under {folder}; found none.")
    return [path.read_bytes() for path in files[:: max(1, len(files) // most)][:most]]


def contenders(model: Path, keras_model: Path | None, port: int) -> list[Contender]:
    """Return the servers to compare, the project's own first."""
    python = sys.executable
    own = [python, "-m", "serve", "--model-uri", str(model), "--port", str(port)]
    mlflow = [python, "-m", "mlflow", "models", "serve", "-m", str(model), "--env-manager", "local"]
    mlflow += ["--port", str(port)]
    found = [
        Contender("serve /invocations", own, "/invocations", as_records),
        Contender("serve /predict", own, "/predict", as_upload),
        Contender("mlflow models serve", mlflow, "/invocations", as_records),
    ]
    if keras_model is not None:
        script = str(Path(__file__).with_name("tutorial_app.py"))
        command = [python, script, str(keras_model), str(port)]
        found.append(Contender("Flask, Keras loaded per request", command, "/predict", as_tutorial))
    return found


def measure(
    contender: Contender,
    port: int,
    scans: Sequence[bytes],
    clients: Sequence[int],
    n: int,
    network: BareNetwork,
) -> None:
    """Run one contender and fill in its numbers."""
    bodies = [contender.body_of(scan) for scan in scans]
    with running(contender, port, bodies[0]) as process:
        for count in clients:
            click.echo(f"{contender.name}: {n} requests from {count} clients", err=True)
            if count == 1:
                take_turns(port, contender, bodies, n, network)
            else:
                load(port, contender, bodies, count, max(n, count))
        contender.peak_mib = peak_mib(process)


@click.command()
@click.option("--model", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--scans", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--keras-model", type=click.Path(exists=True, path_type=Path))
@click.option("--clients", default="1,2,8", show_default=True, help="Numbers of clients.")
@click.option("--requests", "n", default=200, show_default=True, help="Requests per measurement.")
@click.option("--tutorial-requests", default=16, show_default=True, help="The same, for Flask.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Also write numbers.")
def main(
    model: Path,
    scans: Path,
    keras_model: Path | None,
    clients: str,
    n: int,
    tutorial_requests: int,
    json_file: Path | None,
) -> None:
    """Measure each server in turn and print the tables."""
    model = model.resolve()
    port = free_port()
    counts = [int(count) for count in clients.split(",")]
    pictures = read_scans(scans, 50)
    servers = contenders(model, keras_model and keras_model.resolve(), port)
    network = BareNetwork(model, 1)
    inference_s(network, WARM_UP)
    network_s, row_s = inference_s(network, n), pyfunc_s(model, pictures, n)
    for server in servers:
        tutorial = server.body_of is as_tutorial
        measure(server, port, pictures, counts, tutorial_requests if tutorial else n, network)
    click.echo(tables(servers, network_s, row_s))
    if json_file is not None:
        json_file.write_text(json.dumps(numbers(servers, network_s, row_s), indent=2) + "\n")


def numbers(servers: list[Contender], network_s: float, row_s: float) -> dict[str, Any]:
    """Return what was measured as JSON-ready values."""
    return {
        "bare_network_s": network_s,
        "pyfunc_row_s": row_s,
        "servers": {
            server.name: {
                "network_ratios": server.network_ratios,
                "start_s": server.start_s,
                "peak_mib": server.peak_mib,
                "latencies_s": server.latencies_s,
                "rows_per_s": server.rows_per_s,
            }
            for server in servers
        },
    }


if __name__ == "__main__":
    main()
