"""How fast the batch job is, against the bare network, the naive loop and the server's ceiling.

    python -m benchmarks.batch speed  --scans FOLDER --model-uri artifacts/training/model
    python -m benchmarks.batch memory --objects 1000 --objects 50000

Both start an S3 server of their own (SeaweedFS, credentials enforced) and run the job as a user
does, in a process of its own. Every ratio is against something measured in the same run.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import click

from tests.s3_server import S3Server, running_s3_server
from tests.stand_in_model import save_stand_in_model

ROOT = Path(__file__).resolve().parents[1]
SERVER_THREADS = 16


def upload(client: Any, bucket: str, images: Iterator[bytes], number: int) -> None:
    """Write `number` objects scans/0000000 … to a bucket."""

    def put(item: tuple[int, bytes]) -> None:
        client.put_object(Bucket=bucket, Key=f"scans/{item[0]:07d}", Body=item[1])

    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(put, enumerate(islice(images, number))):
            pass


def small_pngs() -> Iterator[bytes]:
    """Yield small grey images."""
    from PIL import Image

    images = []
    for grey in range(256):
        buffer = io.BytesIO()
        Image.new("L", (32, 32), grey).save(buffer, "PNG")
        images.append(buffer.getvalue())
    yield from cycle(images)


def scan_files(folder: Path) -> list[bytes]:
    """Return the contents of all files below a folder."""
    return [path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()]


def run_job(
    server: S3Server, bucket: str, model_uri: str, *options: str
) -> tuple[dict[str, Any], int]:
    """Run the job on the bucket's scans; return its summary and its peak memory in bytes."""
    command = [
        sys.executable, "-m", "batch", f"s3://{bucket}/scans/",
        f"s3://{bucket}/scores-{uuid.uuid4().hex[:8]}/", "--model-uri", model_uri,
        "--no-tracking", *options,
    ]  # fmt: skip
    process = subprocess.Popen(
        command, cwd=ROOT, env=os.environ | server.env(), stdout=subprocess.PIPE
    )
    peak = [0]
    watch = threading.Thread(target=_watch_memory, args=(process, peak), daemon=True)
    watch.start()
    out, _ = process.communicate()
    watch.join()
    if process.returncode not in (0, 1):
        raise click.ClickException(f"the job ended with {process.returncode}")
    return json.loads(out), peak[0]


def _watch_memory(process: subprocess.Popen[bytes], peak: list[int]) -> None:
    # VmHWM is the kernel's own record of the largest resident set.
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
        except OSError:
            return
        for line in status.splitlines():
            if line.startswith("VmHWM:"):
                peak[0] = max(peak[0], int(line.split()[1]) * 1024)
        time.sleep(0.2)


def server_ceiling(server: S3Server, bucket: str, number: int) -> float:
    """Return objects/s that the server hands out to threads that do nothing else."""
    client = server.client()

    def get(index: int) -> None:
        client.get_object(Bucket=bucket, Key=f"scans/{index:07d}")["Body"].read()

    started = time.perf_counter()
    with ThreadPoolExecutor(SERVER_THREADS) as pool:
        for _ in pool.map(get, range(number)):
            pass
    return number / (time.perf_counter() - started)


def naive_loop(server: S3Server, bucket: str, model: Any, number: int) -> float:
    """Return scans/s of one get_object and one predict at a time."""
    import pandas as pd

    client = server.client()
    started = time.perf_counter()
    for index in range(number):
        body = client.get_object(Bucket=bucket, Key=f"scans/{index:07d}")["Body"].read()
        model.predict(pd.DataFrame({"image": pd.Series([body], dtype=object)}))
    return number / (time.perf_counter() - started)


def bare_network(model_folder: Path, batch: int, rounds: int) -> float | None:
    """Return scans/s of the model's network alone, on pixels that are already in memory.

    None if the model folder holds no OpenVINO network (the stand-in does not).
    """
    import numpy as np
    import openvino as ov

    files = sorted(
        model_folder.rglob("*.xml"), key=lambda path: -path.with_suffix(".bin").stat().st_size
    )
    if not files:
        return None
    network = ov.Core().read_model(files[0])
    shape = network.input(0).partial_shape
    height, width, channels = (shape[axis].get_length() for axis in (1, 2, 3))
    compiled = ov.Core().compile_model(network, "CPU", {"PERFORMANCE_HINT": "LATENCY"})
    dtype = network.input(0).element_type.to_dtype()
    fixed = shape[0].get_length() if shape[0].is_static else batch
    pixels = (
        np.random.default_rng(0).integers(0, 256, (fixed, height, width, channels)).astype(dtype)
    )
    compiled(pixels)
    started = time.perf_counter()
    for _ in range(rounds):
        compiled(pixels)
    return fixed * rounds / (time.perf_counter() - started)


@click.group()
def main() -> None:
    """Measure the batch job."""


@main.command()
@click.option("--scans", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--model-uri", help="Default: the stand-in pyfunc of the tests.")
@click.option("--objects", default=343, show_default=True)
@click.option("--batch-size", default=16, show_default=True)
def speed(scans: Path | None, model_uri: str | None, objects: int, batch_size: int) -> None:
    """End-to-end scans/s against the bare network and against the naive loop."""
    import mlflow

    with tempfile.TemporaryDirectory() as scratch, _server(Path(scratch)) as server:
        client = server.client()
        client.create_bucket(Bucket="bench")
        images = cycle(scan_files(scans)) if scans else small_pngs()
        upload(client, "bench", images, objects)
        model_uri = model_uri or str(save_stand_in_model(Path(scratch)))
        folder = Path(mlflow.artifacts.download_artifacts(model_uri))
        model = mlflow.pyfunc.load_model(str(folder))
        rounds = max(2, min(objects, 320) // batch_size)
        network_before = bare_network(folder, batch_size, rounds)
        naive = naive_loop(server, "bench", model, min(objects, 200))
        summary, peak = run_job(server, "bench", str(folder), "--batch-size", str(batch_size))
        network_after = bare_network(folder, batch_size, rounds)
        job = summary["scans_per_s"]
        report = {
            "objects": objects,
            "job_scans_per_s": job,
            "naive_loop_scans_per_s": round(naive, 2),
            "job_over_naive_loop": round(job / naive, 2),
            "server_ceiling_objects_per_s": round(server_ceiling(server, "bench", objects), 1),
            "job_peak_memory_mb": round(peak / 1e6),
        }
        if network_before and network_after:
            network = (network_before + network_after) / 2
            report["bare_network_scans_per_s"] = round(network, 2)
            report["job_over_bare_network"] = round(job / network, 3)
    click.echo(json.dumps(report, indent=2))


@main.command()
@click.option("--objects", type=int, multiple=True, default=(1000, 50000), show_default=True)
@click.option("--model-uri", help="Default: the stand-in pyfunc of the tests, of negligible cost.")
def memory(objects: tuple[int, ...], model_uri: str | None) -> None:
    """Peak memory and objects/s for several sizes, and memory when everything is done already."""
    results = []
    with tempfile.TemporaryDirectory() as scratch, _server(Path(scratch)) as server:
        client = server.client()
        model_uri = model_uri or str(save_stand_in_model(Path(scratch)))
        for number in sorted(objects):
            bucket = f"bench-{number}"
            client.create_bucket(Bucket=bucket)
            upload(client, bucket, small_pngs(), number)
            summary, peak = run_job(server, bucket, model_uri)
            results.append(
                {
                    "objects": number,
                    "rows": summary["rows"],
                    "job_objects_per_s": summary["scans_per_s"],
                    "server_ceiling_objects_per_s": round(
                        server_ceiling(server, bucket, min(number, 5000)), 1
                    ),
                    "peak_memory_mb": round(peak / 1e6, 1),
                }
            )
            click.echo(json.dumps(results[-1]), err=True)
    first, last = results[0]["peak_memory_mb"], results[-1]["peak_memory_mb"]
    click.echo(json.dumps({"runs": results, "memory_ratio": round(last / first, 3)}, indent=2))


def _server(scratch: Path) -> Any:
    return running_s3_server(scratch / "s3")


if __name__ == "__main__":
    main()
