"""Killed at random moments, the job leaves at most one row per series, and the right ones later."""

from __future__ import annotations

import json
import multiprocessing
import random
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mlflow
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch.pyfunc import PinnedModel
from batch.series.answers import MadeFrom, answers
from batch.series.files import RECORD
from batch.series.finish import finish_series
from batch.series.slices import LocalSlices
from batch.store.stores import FolderStore
from batch.table import output
from batch.table.output import SUCCESS, Output
from batch.table.parts import SERIES_COLUMNS, schema_of, to_table
from tests.batch.conftest import Bucket, clean_environment
from tests.batch.fault_proxy import fault_proxy
from tests.batch.kills import SEED, finish_despite_kills
from tests.batch.test_parts import COLUMNS, row
from tests.stand_in_series import CODE, signature, slice_png

SCHEMA = schema_of(COLUMNS | SERIES_COLUMNS)
SLICES = 100
ROWS_PER_PART = 50  # so 2 slice parts, and 1 or 2 series parts
PINNED = PinnedModel("models:/m/1", "models:/m", "d", Path())


class CountingModel:
    """Answers a series with how many slices it has, and takes its time."""

    def __init__(self, seconds_per_call: float) -> None:
        self.seconds_per_call = seconds_per_call

    def series_rows(self, slices: pa.Table) -> list[dict[str, Any]]:
        time.sleep(self.seconds_per_call)
        counts = Counter(slices["series"].to_pylist())
        return [{"series": name, "label": f"{n} slices"} for name, n in counts.items()]


def open_output(folder: Path) -> Output:
    """Open the output as a job does, and read every part."""
    output.ROWS_PER_PART = ROWS_PER_PART
    opened = Output(FolderStore(folder), "parquet", SCHEMA)
    opened.load()
    assert sum(table.num_rows for _name, table in opened.tables()) in (0, SLICES)
    return opened


def rescore(folder: Path, generator: random.Random, state: int) -> None:
    """Give some slices other series, and publish them, as a run does before its end."""
    series = 60 if state % 2 else 30
    chosen = range(SLICES) if state == 0 else generator.sample(range(SLICES), 40)
    rows = [
        row(
            uri=f"s3://b/{n:04d}", label="a", scored_at=datetime.now(UTC), error=None,
            series_uid=f"1.{generator.randrange(series)}", position_mm=float(n % 7),
        )
        for n in chosen
    ]  # fmt: skip
    opened = open_output(folder)
    opened.adopt("_journal/none.parquet", to_table(rows, SCHEMA))
    opened.publish()


def finish(folder: str) -> None:
    """Do what a job does at its end."""
    from batch.series import files

    files.ROWS_PER_PART = 40
    opened = open_output(Path(folder))

    def answer(slices: LocalSlices, parts: int, made_from: MadeFrom) -> Iterator[pa.Table]:
        model: Any = CountingModel(0.01)
        for table in slices.sorted(parts):
            yield from answers([table], model, made_from)

    finish_series(opened, PINNED, None, answer)
    opened.store.write(SUCCESS, b"")


def series_rows(folder: Path) -> list[dict[str, Any]]:
    """Return the series table; every file must be whole."""
    parts = sorted(folder.glob("series/part-*"))
    return [one for part in parts for one in pq.read_table(part).to_pylist()]


def check(folder: Path) -> None:
    """Check that the series table is that of the slice parts."""
    parts = sorted(folder.glob("part-*.parquet"))
    slices = pa.concat_tables([pq.read_table(part) for part in parts]).to_pylist()
    counts = Counter(one["series_uid"] for one in slices)
    found = series_rows(folder)
    assert {one["series_uid"]: one["slices"] for one in found} == counts
    assert all(one["label"] == f"{one['slices']} slices" for one in found)
    assert len(found) == len(counts)
    record = json.loads((folder / RECORD).read_text())
    assert {one["slices_digest"] for one in found} == {record["slices"]}
    for name in counts:
        places = [one for one in slices if one["series_uid"] == name]
        places.sort(key=lambda one: (-one["position_mm"], one["uri"]))
        assert [one["slice_index"] for one in places] == list(range(len(places)))


def test_sigkill_at_random_moments_of_the_end_of_a_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "ROWS_PER_PART", ROWS_PER_PART)
    generator = random.Random(SEED)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["batch.job", "duckdb"])
    rescore(tmp_path, generator, 0)
    for _ in range(2):  # the first one starts the server that the others are forked from
        (tmp_path / RECORD).unlink(missing_ok=True)
        started = time.monotonic()
        process = context.Process(target=finish, args=(str(tmp_path),))
        process.start()
        process.join()
        span_s = time.monotonic() - started
    check(tmp_path)
    kills = 0
    for state in range(1, 7):
        rescore(tmp_path, generator, state)
        (tmp_path / SUCCESS).unlink(missing_ok=True)
        process = context.Process(target=finish, args=(str(tmp_path),))
        process.start()
        process.join(generator.uniform(0.1, 1) * span_s)
        if process.is_alive():
            process.kill()
            kills += 1
        process.join()
        rows = series_rows(tmp_path)
        assert len({one["series_uid"] for one in rows}) == len(rows), "at most one row per series"
        assert len({one["slices_digest"] for one in rows}) <= 2, "the old ones and the new ones"
        if (tmp_path / SUCCESS).exists():
            check(tmp_path)
    assert kills >= 2, "they must meet a job at work"
    process = context.Process(target=finish, args=(str(tmp_path),))
    process.start()
    process.join()
    assert process.exitcode == 0
    check(tmp_path)


@pytest.mark.slow
def test_sigkill_of_the_whole_job_on_s3(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put(
        {
            f"scans/{n:04d}": slice_png(f"1.{n % 9}", float(n // 9), n % 256)
            for n in range(300)
        }
    )  # fmt: skip
    code = tmp_path / "slow_series.py"
    slow = CODE.replace(
        "data = image if", "__import__('time').sleep(0.005)\n{indent}data = image if"
    )
    code.write_text(slow.replace("{indent}", 16 * " "))
    mlflow.pyfunc.save_model(
        str(tmp_path / "model"), python_model=str(code), signature=signature(),
        pip_requirements=["mlflow"],
    )  # fmt: skip
    scans = f"/{bucket.name}/scans/"
    with fault_proxy(bucket.server.endpoint_url) as proxy:
        environment = clean_environment(
            tmp_path, **(bucket.server.env() | {"AWS_ENDPOINT_URL": proxy.endpoint_url})
        )
        arguments = [
            f"s3:/{scans}", f"s3://{bucket.name}/scores/", "--no-tracking",
            "--model-uri", str(tmp_path / "model"), "--batch-size", "16",
        ]  # fmt: skip
        killed = finish_despite_kills(
            arguments, environment, proxy, scans, tmp_path, kills=4, span_s=1.5
        )
    assert killed.exit_code == 0, (tmp_path / "err").read_text()
    slices = bucket.table("scores/").to_pylist()
    series = bucket.table("scores/series/").to_pylist()
    assert len(slices) == 300
    assert {one["series_uid"]: one["slices"] for one in series} == Counter(
        one["series_uid"] for one in slices
    )
    assert len(series) == 9
    assert all(one["error"] is None for one in series)
