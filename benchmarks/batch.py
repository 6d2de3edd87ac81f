"""How fast the batch job is, against what it can be compared with, and what kills it survives.

    python -m benchmarks.batch speed  --scans FOLDER --model-uri artifacts/training/model
    python -m benchmarks.batch memory --objects 1000 --objects 50000
    python -m benchmarks.batch kills
    python -m benchmarks.batch series --scans FOLDER_OF_DICOM --model-uri artifacts/training/model
    python -m benchmarks.batch series-memory --slices 100000 --slices 1000000

The first three start an S3 server of their own (SeaweedFS, credentials enforced). The job runs as a
user runs it, in a process of its own. Every ratio is against something measured in the same run.
The third kills the job again and again while some of the objects kill its model, and counts the
rows; the last two are about the series table.
"""

from __future__ import annotations

import io
import json
import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

import click
import pyarrow.parquet as pq

from benchmarks.batch_series import series, series_memory
from benchmarks.job_and_rivals import Rival, run_job
from tests.batch.fault_proxy import fault_proxy
from tests.batch.kills import SEED, finish_despite_kills, save_slow_model
from tests.s3_server import S3Server, running_s3_server
from tests.stand_in_model import save_stand_in_model

SERVER_THREADS = 16
NETWORK_BATCH = 16
NETWORK_CALLS = 5  # a turn
NAIVE_SCANS = 48  # a turn


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


def naive_loop(server: S3Server, bucket: str, model: Any, objects: int) -> Rival:
    """Return the loop of one get_object and one predict at a time."""
    import pandas as pd

    client = server.client()
    indices = cycle(range(objects))

    def turn() -> int:
        for index in islice(indices, NAIVE_SCANS):
            body = client.get_object(Bucket=bucket, Key=f"scans/{index:07d}")["Body"].read()
            model.predict(pd.DataFrame({"image": pd.Series([body], dtype=object)}))
        return NAIVE_SCANS

    return Rival(turn)


def bare_network(model: Path) -> Rival | None:
    """Return the model's network alone, in batches of 16, about the fastest.

    None if the model folder holds no OpenVINO network (the stand-in does not).
    """
    from benchmarks.bare_network import BareNetwork

    try:
        network = BareNetwork(model, NETWORK_BATCH)
    except FileNotFoundError:
        return None
    return Rival(lambda: sum(network.infer() for _ in range(NETWORK_CALLS)))


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

    They take turns of seconds in one run; ratios are medians over the rounds. The S3 server shares
    the machine's cores with the job, so the job on a local folder is measured too.
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
            naive = naive_loop(server, "bench", model, objects)
            measured.append(
                _against(server, "s3://bench", files, naive)
                | {"server_ceiling_objects_per_s": server_ceiling(server, "bench", objects)}
                | {
                    f"folder_{name}": value
                    for name, value in _against(server, scratch, files).items()
                }
            )
            click.echo(json.dumps(_rounded(measured[-1])), err=True)
    report = {name: median(one[name] for one in measured) for name in measured[0]}
    click.echo(json.dumps({"objects": objects, "rounds": rounds, **_rounded(report)}, indent=2))


def _against(
    server: S3Server, where: str, model: Path, naive: Rival | None = None
) -> dict[str, float]:
    """Run the job once, with the bare network and the naive loop taking turns."""
    network = bare_network(model)
    rivals = [rival for rival in (network, naive) if rival]
    for rival in rivals:
        rival.take_turn()  # a short job would end before the first
    job = run_job(server, where, str(model), rivals=rivals)
    result = {"job_scans_per_s": job.scans_per_s, "job_peak_memory_mb": job.peak_bytes / 1e6}
    for name, rival in (("bare_network", network), ("naive_loop", naive)):
        if rival:
            result[f"{name}_scans_per_s"] = rival.scans_per_s
            result[f"job_over_{name}"] = job.scans_per_s / rival.scans_per_s
    return result


def _rounded(numbers: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in numbers.items()}


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
            job = run_job(server, f"s3://{bucket}", model_uri)
            results.append(
                {
                    "objects": number,
                    "rows": job.summary["rows"],
                    "job_objects_per_s": round(job.scans_per_s, 1),
                    "server_ceiling_objects_per_s": round(
                        server_ceiling(server, bucket, min(number, 5000)), 1
                    ),
                    "peak_memory_mb": round(job.peak_bytes / 1e6, 1),
                }
            )
            click.echo(json.dumps(results[-1]), err=True)
    first, last = results[0]["peak_memory_mb"], results[-1]["peak_memory_mb"]
    click.echo(json.dumps({"runs": results, "memory_ratio": round(last / first, 3)}, indent=2))


@main.command()
@click.option("--rounds", default=10, show_default=True, help="Jobs, each with its own output.")
@click.option("--kills", default=10, show_default=True, help="SIGKILLs of each job.")
@click.option("--objects", default=640, show_default=True, help="Good scans.")
@click.option("--hostile", default=10, show_default=True, help="Scans that kill the model.")
@click.option("--seed", default=SEED, show_default=True, help="Of the moments of the kills.")
def kills(rounds: int, kills: int, objects: int, hostile: int, seed: int) -> None:
    """Kill jobs at random moments, with hostile objects among the good; one row each.

    A job keeps what it has scored, so one that is killed often enough has nothing left to be killed
    at. That is why there are several.
    """
    names = [f"scans/{n:04d}.png" for n in range(objects)]
    bad = [f"scans/{(n * objects) // max(hostile, 1):04d}-hostile" for n in range(hostile)]
    with tempfile.TemporaryDirectory() as scratch, _server(Path(scratch)) as server:
        client = server.client()
        client.create_bucket(Bucket="bench")
        for name, image in zip(names, small_pngs(), strict=False):
            client.put_object(Bucket="bench", Key=name, Body=image)
        for number, name in enumerate(bad):
            client.put_object(Bucket="bench", Key=name, Body=b"kill" + bytes(number))
        model = save_slow_model(Path(scratch), seconds_per_scan=0.04)
        reports = []
        for turn in range(rounds):
            reports.append(
                _killed_job(server, model, f"scores-{turn}", Path(scratch), kills, seed + turn)
            )
            rows = reports[-1].pop("failed"), reports[-1]["rows"], reports[-1]["distinct"]
            click.echo(json.dumps(reports[-1]), err=True)
            if rows != (sorted(bad), objects + hostile, objects + hostile):
                printed = Path(scratch, "err").read_text()
                raise click.ClickException(f"not one right row for each object: {printed[-500:]}")
    counted = ("attempts", "kills", "while_reading", "reads", "rows")
    total = {name: sum(report[name] for report in reports) for name in counted}
    click.echo(json.dumps({"jobs": rounds, "objects": objects + hostile} | total, indent=2))


def _killed_job(
    server: S3Server, model: Path, output: str, scratch: Path, kills: int, seed: int
) -> dict[str, Any]:
    """Return what a job that was killed so many times left behind."""
    arguments = [
        "s3://bench/scans/", f"s3://bench/{output}/", "--model-uri", str(model),
        "--no-tracking", "--batch-size", "16",
    ]  # fmt: skip
    with fault_proxy(server.endpoint_url) as proxy:
        environment = os.environ | server.env() | {"AWS_ENDPOINT_URL": proxy.endpoint_url}
        killed = finish_despite_kills(
            arguments, environment, proxy, "/bench/scans/", scratch,
            kills=kills, span_s=4, seed=seed,
        )  # fmt: skip
    part = server.client().get_object(Bucket="bench", Key=f"{output}/part-00000.parquet")
    rows = pq.read_table(io.BytesIO(part["Body"].read())).to_pylist()
    names = [row["uri"].removeprefix("s3://bench/") for row in rows]
    failed = sorted(name for name, row in zip(names, rows, strict=True) if row["error"])
    return asdict(killed) | {"rows": len(rows), "distinct": len(set(names)), "failed": failed}


main.add_command(series)
main.add_command(series_memory)


def _server(scratch: Path) -> Any:
    return running_s3_server(scratch / "s3")


if __name__ == "__main__":
    main()
