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
from statistics import mean, median
from typing import Any

import click

from tests.s3_server import S3Server, running_s3_server
from tests.stand_in_model import save_stand_in_model

ROOT = Path(__file__).resolve().parents[1]
SERVER_THREADS = 16
NETWORK_BATCH = 16
NETWORK_CALLS = 20


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
    server: S3Server, where: str, model_uri: str, *options: str
) -> tuple[dict[str, Any], int]:
    """Run the job on the scans below `where`; return its summary and its peak memory in bytes."""
    command = [
        sys.executable, "-m", "batch", f"{where}/scans", f"{where}/scores-{uuid.uuid4().hex[:8]}",
        "--model-uri", model_uri, "--no-tracking", *options,
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


def bare_network(model_folder: Path) -> float | None:
    """Return scans/s of the model's network alone, on pixels that are already in memory.

    In batches of 16, about the fastest. None if the model folder holds no OpenVINO network (the
    stand-in does not).
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
    compiled = ov.Core().compile_model(
        network, "CPU", {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    )
    dtype = network.input(0).element_type.to_dtype()
    pixels = np.random.default_rng(0).integers(
        0, 256, (NETWORK_BATCH, height, width, channels), dtype=dtype
    )
    compiled(pixels)
    started = time.perf_counter()
    for _ in range(NETWORK_CALLS):
        compiled(pixels)
    return NETWORK_BATCH * NETWORK_CALLS / (time.perf_counter() - started)


@click.group()
def main() -> None:
    """Measure the batch job."""


@main.command()
@click.option("--scans", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--model-uri", help="Default: the stand-in pyfunc of the tests.")
@click.option("--objects", default=1000, show_default=True, help="The scans over and over.")
@click.option("--rounds", default=3, show_default=True)
def speed(scans: Path | None, model_uri: str | None, objects: int, rounds: int) -> None:
    """End-to-end scans/s against the bare network and against the naive loop.

    Each round measures all of them one after the other; ratios are medians over the rounds. The S3
    server shares the machine's cores with the job, so the job on a local folder is measured too.
    """
    import mlflow

    with tempfile.TemporaryDirectory() as scratch, _server(Path(scratch)) as server:
        client = server.client()
        client.create_bucket(Bucket="bench")
        upload(client, "bench", cycle(scan_files(scans)) if scans else small_pngs(), objects)
        folder = Path(scratch, "scans")
        folder.mkdir()
        for index, image in enumerate(
            islice(cycle(scan_files(scans)) if scans else small_pngs(), objects)
        ):
            (folder / f"{index:07d}").write_bytes(image)
        model_uri = model_uri or str(save_stand_in_model(Path(scratch)))
        files = Path(mlflow.artifacts.download_artifacts(model_uri))
        model = mlflow.pyfunc.load_model(str(files))
        measured = []
        for _ in range(rounds):
            before = bare_network(files)
            from_s3, peak = run_job(server, "s3://bench", str(files))
            between = bare_network(files)
            from_folder, _ = run_job(server, scratch, str(files))
            after = bare_network(files)
            one = {
                "job_scans_per_s": from_s3["scans_per_s"],
                "job_on_a_folder_scans_per_s": from_folder["scans_per_s"],
                "naive_loop_scans_per_s": naive_loop(server, "bench", model, min(objects, 200)),
                "server_ceiling_objects_per_s": server_ceiling(server, "bench", objects),
                "job_peak_memory_mb": peak / 1e6,
            }
            one["job_over_naive_loop"] = one["job_scans_per_s"] / one["naive_loop_scans_per_s"]
            if before and between and after:
                one["bare_network_scans_per_s"] = between
                one["job_over_bare_network"] = one["job_scans_per_s"] / mean([before, between])
                one["job_on_a_folder_over_bare_network"] = one[
                    "job_on_a_folder_scans_per_s"
                ] / mean([between, after])
            measured.append(one)
            click.echo(json.dumps({name: round(value, 3) for name, value in one.items()}), err=True)
    report = {name: round(median(one[name] for one in measured), 3) for name in measured[0]}
    click.echo(json.dumps({"objects": objects, "rounds": rounds, **report}, indent=2))


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
            summary, peak = run_job(server, f"s3://{bucket}", model_uri)
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
