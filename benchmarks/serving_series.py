"""Time from sending a whole series to its answer, beside the bare network on the slices scored.

    python -m benchmarks.serving_series --model artifacts/training/model --slices study/

The series is sent to POST /predict as files, and as one zip. Each request takes turns with the bare
network at batch 16 on as many slices as the answer says were scored, so that a moment in which the
machine is slow counts for both. Processor time is that of the server's process and of the bare
network; other work on the machine hardly changes it. A table goes to standard output as Markdown.
"""

from __future__ import annotations

import http.client
import io
import json
import math
import os
import statistics
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import psutil
import pydicom
from pydicom.uid import generate_uid

from benchmarks.bare_network import BareNetwork
from benchmarks.serving import BOUNDARY, Body, Contender, ask, contenders, free_port, running

BATCH = 16  # as the model's own
Files = list[tuple[str, bytes]]


def series_of(folder: Path, slices: int, spacing_mm: float) -> Files:
    """Return the files of one series.

    Args:
        folder: DICOM slices of one shape, as many as there are; they are taken in turn.
        slices: how many are wanted.
        spacing_mm: distance of neighbours, written into each header with one series' UID.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    if not paths:
        raise click.UsageError(f"Expected DICOM slices under {folder}; found none.")
    series, files = generate_uid(), []
    for i in range(slices):
        dataset = pydicom.dcmread(paths[i % len(paths)])
        dataset.SeriesInstanceUID, dataset.SOPInstanceUID = series, generate_uid()
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        dataset.ImagePositionPatient = [0, 0, round(i * spacing_mm, 3)]
        file = io.BytesIO()
        dataset.save_as(file)
        files.append((f"IM{i:04}", file.getvalue()))
    return files


def upload(files: Files) -> Body:
    """Return files as one multipart request."""
    parts = []
    for name, content in files:
        head = f'Content-Disposition: form-data; name="files"; filename="{name}"'
        parts.append(f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode() + content + b"\r\n")
    end = f"--{BOUNDARY}--\r\n".encode()
    return b"".join([*parts, end]), f"multipart/form-data; boundary={BOUNDARY}"


def zipped(files: Files) -> Files:
    """Return files as one zip, packed as most tools do."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in files:
            made.writestr(name, content)
    return [("study.zip", file.getvalue())]


def network_s(network: BareNetwork, slices: int) -> tuple[float, int]:
    """Return the time that the bare network takes for so many slices, in seconds.

    Returns:
        The time, and how many slices it did meanwhile: whole batches.
    """
    started = time.perf_counter()
    done = 0
    while done < slices:
        done += network.infer()
    return (time.perf_counter() - started) * slices / done, done


def processor_s(process: psutil.Process) -> float:
    """Return the processor time that a process has used, in seconds."""
    used = process.cpu_times()
    return float(used.user + used.system)


def measured(
    port: int, server: psutil.Process, body: Body, network: BareNetwork, rounds: int
) -> dict[str, Any]:
    """Send a series some times, in turns with the bare network."""
    own = psutil.Process()
    took, ratios, work, scored, skipped = [], [], [], 0, 0
    for i in range(rounds + 1):
        # A connection of its own: an idle one is closed while the bare network has its turn.
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
        connection.connect()
        started, used = time.perf_counter(), processor_s(server)
        answer = json.loads(ask(connection, "/predict", body))
        seconds, server_s = time.perf_counter() - started, processor_s(server) - used
        connection.close()
        (entry,) = answer["series"]
        scored, skipped = entry["scored"], entry["skipped"]
        used = processor_s(own)
        bare_s, slices = network_s(network, scored)
        bare_work_s = (processor_s(own) - used) * scored / slices
        if i:  # the first warms up
            took.append(seconds)
            ratios.append(seconds / bare_s)
            work.append(server_s / bare_work_s)
    numbers = {"scored": scored, "skipped": skipped, "seconds": statistics.median(took)}
    numbers["work"] = statistics.median(work)
    return numbers | {"ratio": statistics.median(ratios), "spread": (min(ratios), max(ratios))}


def table(rows: Sequence[tuple[str, int, dict[str, Any]]]) -> str:
    """Return what was measured as Markdown."""
    lines = [
        "| sent as | MB | scored | skipped | answer after s | ratio to the bare network "
        "| ratio of processor time |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, size, found in rows:
        low, high = found["spread"]
        lines.append(
            f"| {name} | {size / 1e6:.0f} | {found['scored']} | {found['skipped']} "
            f"| {found['seconds']:.2f} | {found['ratio']:.2f} ({low:.2f}–{high:.2f}) "
            f"| {found['work']:.2f} |"
        )
    return "\n".join(lines)


@click.command()
@click.option("--model", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--slices", "folder", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--number", default=133, show_default=True, help="Slices of the series.")
@click.option("--spacing-mm", default=2.5, show_default=True, help="Distance of neighbours.")
@click.option("--rounds", default=5, show_default=True, help="Measured requests of each kind.")
def main(model: Path, folder: Path, number: int, spacing_mm: float, rounds: int) -> None:
    """Measure whole series through /predict and print a table."""
    files = series_of(folder, number, spacing_mm)
    kinds = {"files": upload(files), "a zip": upload(zipped(files))}
    port = free_port()
    server: Contender = contenders(model.resolve(), None, port)[1]
    network = BareNetwork(model, BATCH)
    rows = []
    with running(server, port, server.body_of(files[0][1])) as process:
        for name, body in kinds.items():
            click.echo(f"{number} slices as {name}: {rounds} requests", err=True)
            rows.append((name, len(body[0]), measured(port, process, body, network, rounds)))
    worst = max(found["ratio"] for _, _, found in rows)
    click.echo(table(rows))
    click.echo(f"Largest ratio: {math.ceil(100 * worst) / 100:.2f}", err=True)
    one, five, _ = os.getloadavg()
    click.echo(f"Load of the machine: {one:.1f} in the last minute, {five:.1f} in five", err=True)


if __name__ == "__main__":
    main()
