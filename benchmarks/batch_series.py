"""What the series table costs the batch job in time and memory; commands of benchmarks.batch."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from io import BytesIO
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
import pyarrow as pa

from benchmarks.job_and_rivals import JOB_TURN_S, ROOT, Rival, run_job

NETWORK_BATCH = 16
NETWORK_CALLS = 5  # a turn
SLICES_PER_SERIES = 100
SPACING_MM = 2.5
ROWS_PER_PART = 10_000


def write_series(sources: list[bytes], folder: Path, slices: int, series: int) -> None:
    """Write slices of as many series, the pixels of the sources over and over.

    Files of one series do not lie together, as objects named by their UID do not.
    """
    from pydicom import dcmread

    pictures = cycle(sources)
    folder.mkdir(parents=True)
    for number in range(slices):
        ds = dcmread(BytesIO(next(pictures)))
        ds.SeriesInstanceUID = f"2.25.{number % series}"
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"2.25.9.{number}"
        ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        ds.ImagePositionPatient = [0, 0, SPACING_MM * (number // series)]
        ds.save_as(folder / f"{number:07d}.dcm")


@click.command()
@click.option(
    "--scans", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True
)
@click.option("--model-uri", required=True, help="Folder of a model that answers series.")
@click.option("--slices", default=20_000, show_default=True, help="Half a MB each on disk.")
@click.option("--series", "number", default=200, show_default=True)
@click.option("--rounds", default=1, show_default=True)
@click.option("--turn-s", default=JOB_TURN_S, show_default=True, help="Of the job, between pauses.")
def series(
    scans: Path, model_uri: str, slices: int, number: int, rounds: int, turn_s: float
) -> None:
    """The job on a folder of series against the bare network, and the share of the series table.

    The job is paused every few seconds and the bare network takes a turn of about three. The folder
    lies in the temporary folder: half a MB a slice, 10.5 GB for 20,000.
    """
    from benchmarks.bare_network import BareNetwork
    from model.decoding.errors import ScanError
    from model.decoding.scan_file import decode_grey

    sources = []
    for path in sorted(scans.rglob("*.dcm")):
        data = path.read_bytes()
        try:
            decode_grey(data)
        except ScanError as error:
            click.echo(f"left out: {path.name}: {error}", err=True)
        else:
            sources.append(data)
    if not sources:
        raise click.ClickException(f"Expected DICOM slices in {scans}, found none.")
    network = BareNetwork(Path(model_uri), NETWORK_BATCH)
    measured = []
    with tempfile.TemporaryDirectory() as scratch:
        write_series(sources, Path(scratch, "scans"), slices, number)
        for _ in range(rounds):
            bare = Rival(lambda: sum(network.infer() for _ in range(NETWORK_CALLS)))
            bare.take_turn()
            job = run_job(
                None, scratch, str(Path(model_uri).resolve()), rivals=[bare], turn_s=turn_s
            )
            measured.append(
                {
                    "job_slices_per_s": job.scans_per_s,
                    "bare_network_slices_per_s": bare.scans_per_s,
                    "job_over_bare_network": job.scans_per_s / bare.scans_per_s,
                    "series_table_share": job.series_share,
                    "series_time_s": job.summary["series_time_s"],
                    "peak_memory_mb": job.peak_bytes / 1e6,
                }
            )
            click.echo(json.dumps(_rounded(measured[-1])), err=True)
            if (job.summary["rows"], job.summary["series"]) != (slices, number):
                raise click.ClickException(f"not one row each: {job.summary}")
    report = {name: median(one[name] for one in measured) for name in measured[0]}
    click.echo(json.dumps({"slices": slices, "series": number, **_rounded(report)}, indent=2))


def _rounded(numbers: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in numbers.items()}


# One process: a job that is run again on slices that all have their rows, but whose series table is
# missing. Its peak memory, up to the series table and with it.
RESUMED = """
import json, re, sys, time
from pathlib import Path

from batch.memory import give_memory_back, share_memory_between_threads

share_memory_between_threads()
from batch.model_process import ModelProcess
from batch.pyfunc import pinned_model
from batch.series.answers import answers
from batch.series.finish import finish_series
from batch.store.stores import FolderStore
from batch.summary import count_rows
from batch.table.output import Output
from batch.table.parts import schema_of


def memory_mb(kind, process="self"):
    status = Path(f"/proc/{process}/status").read_text()
    return round(int(re.search(kind + r":\\s+(\\d+) kB", status)[1]) / 1e3)


def forget_peak():
    Path("/proc/self/clear_refs").write_text("5")


folder, uri = sys.argv[1:]
with pinned_model(uri) as pinned, ModelProcess(pinned) as model:
    output = Output(FolderStore(Path(folder)), "parquet", schema_of(model.columns))
    began = time.monotonic()
    output.load()
    index_s, began = time.monotonic() - began, time.monotonic()
    for _part, table in output.tables():  # as if they were pages of the listing
        found = output.index.find(table["uri"].to_pylist())
        output.index.mark_seen(found.rows)
    assert output.index.count_unseen() == 0
    lookups_s = time.monotonic() - began
    counts = count_rows(output)
    output.forget_index()
    give_memory_back()
    before_mb, between_mb, began = memory_mb("VmHWM"), memory_mb("VmRSS"), time.monotonic()
    forget_peak()
    outcome = finish_series(
        output, pinned, None, lambda slices, parts, by: answers(slices.sorted(parts), model, by)
    )
    series_s = time.monotonic() - began
    print(json.dumps({
        "slices": counts.rows,
        "series": outcome.counts.rows,
        "index_and_counting_peak_mb": before_mb,
        "between_mb": between_mb,
        "series_table_peak_mb": memory_mb("VmHWM"),
        "job_peak_mb": max(before_mb, memory_mb("VmHWM")),
        "model_process_peak_mb": memory_mb("VmHWM", model._child._process.pid),
        "index_s": round(index_s, 1),
        "reading_and_lookups_s": round(lookups_s, 1),
        "series_s": round(series_s, 1),
    }))
"""


def slice_tables(slices: int, series: int, schema: pa.Schema, digest: str) -> Iterator[pa.Table]:
    """Yield rows as a job would have left them before the series table; series lie mixed."""
    generator, now = np.random.default_rng(0), datetime.now(UTC)
    classes = [name for name in schema.names if name.startswith("p_")]
    for start in range(0, slices, ROWS_PER_PART):
        numbers = np.arange(start, min(start + ROWS_PER_PART, slices))
        p = generator.dirichlet(np.ones(len(classes)), len(numbers))
        values: dict[str, Any] = {
            "uri": [
                f"s3://hospital/studies/2026-11/{n * 2654435761 % 2**32:032x}" for n in numbers
            ],
            "etag": [f"{n:032x}" for n in numbers],
            "size_bytes": [527_358] * len(numbers),
            "last_modified": [now] * len(numbers),
            "label": [classes[i][2:] for i in p.argmax(1)],
            "probability": p.max(1),
            "out_of_domain": [False] * len(numbers),
            "undecided": [False] * len(numbers),
            "model_uri": ["models:/chest-ct/3"] * len(numbers),
            "model_digest": [digest] * len(numbers),
            "scored_at": [now] * len(numbers),
            "series_uid": [f"1.2.840.113619.2.55.3.{n % series:032d}" for n in numbers],
            "position_mm": SPACING_MM * (numbers // series),
            "attention": generator.normal(size=len(numbers)),
        } | {name: p[:, i] for i, name in enumerate(classes)}
        arrays = [
            pa.array(values[f.name], f.type) if f.name in values else pa.nulls(len(numbers), f.type)
            for f in schema
        ]
        yield pa.Table.from_arrays(arrays, schema=schema)


@click.command("series-memory")
@click.option("--slices", type=int, multiple=True, default=(100_000, 1_000_000), show_default=True)
@click.option("--model-uri", help="Default: the stand-in of the tests, of negligible cost.")
def series_memory(slices: tuple[int, ...], model_uri: str | None) -> None:
    """Peak memory and time of the series table, for tables of 100 slices a series."""
    from batch.model_process import ModelProcess
    from batch.pyfunc import pinned_model
    from batch.store.stores import FolderStore
    from batch.table.part_files import PartFiles
    from batch.table.parts import schema_of
    from tests.stand_in_series import save_series_model

    results = []
    with tempfile.TemporaryDirectory() as scratch:
        uri = model_uri or str(save_series_model(Path(scratch)))
        with pinned_model(uri) as pinned, ModelProcess(pinned) as model:
            schema, digest = schema_of(model.columns), pinned.digest
        for number in sorted(slices):
            folder = Path(scratch, str(number))
            parts = PartFiles(FolderStore(folder), "parquet", schema)
            tables = slice_tables(number, number // SLICES_PER_SERIES, schema, digest)
            for place, table in enumerate(tables):
                parts.create(place, table)
            done = subprocess.run(
                [sys.executable, "-c", RESUMED, str(folder), uri], cwd=ROOT, capture_output=True,
                text=True, check=False, env=os.environ | {"PYTHONPATH": str(ROOT)},
            )  # fmt: skip
            if done.returncode:
                raise click.ClickException(done.stderr[-2000:])
            results.append(json.loads(re.findall(r"^\{.*\}$", done.stdout, re.M)[-1]))
            click.echo(json.dumps(results[-1]), err=True)
    ratio = results[-1]["job_peak_mb"] / results[0]["job_peak_mb"]
    click.echo(json.dumps({"runs": results, "job_memory_ratio": round(ratio, 3)}, indent=2))
