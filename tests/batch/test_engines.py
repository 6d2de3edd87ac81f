"""What both engines share: from objects to rows in the journal. No JVM is started here."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from batch import spark
from batch.local import score_here
from batch.locations import Access, Location
from batch.model_process import ModelProcess
from batch.pipeline import score_objects
from batch.progress import RunState
from batch.settings import Concurrency, JobSettings
from batch.source.fetch import Fetched
from batch.source.listing import ScanObject
from batch.source.source import Source
from batch.store.stores import FolderStore
from batch.table.journal import JOURNAL, Journal, read_segment
from batch.table.output import Output
from batch.table.parts import schema_of
from tests.batch.conftest import png
from tests.batch.test_objects import WHEN

OBJECTS = 90
SETTLED = ("uri", "etag", "size_bytes", "last_modified", "label", "probability", "error")


@pytest.fixture
def job(tmp_path: Path) -> JobSettings:
    """Return a job on a folder of scans, one of which is none."""
    (tmp_path / "scans").mkdir()
    for n in range(OBJECTS - 1):
        (tmp_path / "scans" / f"{n:03d}.png").write_bytes(png(n))
    (tmp_path / "scans" / "bad").write_bytes(b"bad")
    return JobSettings(
        Location.parse(str(tmp_path / "scans")),
        Location.parse(str(tmp_path / "out")),
        "unused",
        Access(),
        Concurrency(batch_size=8, workers=4),
    )


def listed(job: JobSettings) -> list[ScanObject]:
    """Return the job's objects."""
    source = Source(job.input, job.access)
    return [scan for page in source.pages() for scan in page.objects]


def rows(output: Output) -> list[dict[str, Any]]:
    """Return what the journal holds, by object, without times and places of writing."""
    tables = [
        read_segment(output.store, name, output.schema) for name in output.store.names(JOURNAL)
    ]
    found = [{name: row[name] for name in SETTLED} for table in tables for row in table.to_pylist()]
    return sorted(found, key=lambda row: str(row["uri"]))


def run_task(
    name: str, scans: list[ScanObject], task: spark.Task, monkeypatch: pytest.MonkeyPatch
) -> spark.TaskResult:
    """Run a Spark task in this process, as a worker would."""
    pyspark = pytest.importorskip("pyspark", reason="pip install -r requirements-spark.txt")
    context = SimpleNamespace(taskAttemptId=lambda: 7)
    monkeypatch.setattr(pyspark, "TaskContext", SimpleNamespace(get=lambda: context))
    return spark.run_task(name, scans, task)


def test_a_task_writes_the_rows_that_this_machine_writes_and_goes_on_from_a_lost_attempt(
    job: JobSettings,
    stand_in_process: ModelProcess,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    schema = schema_of(stand_in_process.columns)
    here = Output(FolderStore(tmp_path / "here"), "parquet", schema)
    run, scans = RunState(), listed(job)
    score_here(
        iter(scans), Source(job.input, job.access), stand_in_process, here, job.concurrency, run
    )
    expected = rows(here)
    assert [row["uri"] for row in expected] == sorted(scan.uri for scan in scans)
    assert (run.rows_scored, run.rows_failed) == (OBJECTS - 1, 1)
    assert (run.objects_read, run.bytes_read) == (OBJECTS, sum(s.size_bytes for s in scans))

    pinned = stand_in_process.pinned
    monkeypatch.setitem(spark._models, pinned.digest, stand_in_process)
    task = spark.Task(job, pinned, "model.zip", schema)
    there = Output(FolderStore(tmp_path / "out"), "parquet", schema)
    first = run_task("w0-t0", scans[:40], task, monkeypatch)
    assert (first.rows_scored, first.rows_failed, first.fault) == (40, 0, None)
    whole = run_task("w0-t0", scans, task, monkeypatch)  # as if that attempt had been lost
    assert whole.objects_read == OBJECTS - 40
    assert (whole.rows_scored, whole.rows_failed) == (OBJECTS - 1, 1)
    assert sorted(whole.segments) == there.store.names(JOURNAL)
    assert rows(there) == expected


def test_what_is_under_way_stays_within_the_window_and_a_stop_keeps_what_is_scored(
    job: JobSettings, stand_in_process: ModelProcess, tmp_path: Path
) -> None:
    source, run, concurrency = Source(job.input, job.access), RunState(), Concurrency(64, 16)
    scans = [replace(scan) for _ in range(10) for scan in listed(job)]
    lock, asked, durable, most = threading.Lock(), 0, 0, 0

    def fetch(scan: ScanObject) -> Fetched:
        nonlocal asked, most
        with lock:
            asked += 1
            most = max(most, asked - durable)
        return source.fetch(scan)

    def adopt(_name: str, table: Any) -> None:
        nonlocal durable
        with lock:
            durable += table.num_rows
        if durable >= 500:
            run.stop.set()

    store = FolderStore(tmp_path / "out")
    journal = Journal(store, "run", schema_of(stand_in_process.columns), adopt)
    score_objects(scans, fetch, stand_in_process, journal, concurrency, run)
    assert concurrency.read_ahead <= most <= concurrency.window
    assert 500 <= durable == run.rows_written <= asked < len(scans)


class Holding:
    """A model that notes how many bytes were read and not scored yet."""

    def __init__(self, pinned: Any) -> None:
        self.pinned, self.lock, self.held, self.most = pinned, threading.Lock(), 0, 0

    def fetch(self, scan: ScanObject) -> Fetched:
        with self.lock:
            self.held += scan.size_bytes
            self.most = max(self.most, self.held)
        return Fetched(scan, bytes(scan.size_bytes))

    def score(self, images: list[bytes]) -> list[dict[str, Any]]:
        with self.lock:
            self.held -= sum(map(len, images))
        return [{"label": "a", "error": None} for _ in images]


@pytest.mark.parametrize(("size_bytes", "most"), [(300, 900), (1500, 1500), (1, 1000)])
def test_bytes_read_ahead_stay_within_their_limit(
    stand_in_process: ModelProcess,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    size_bytes: int,
    most: int,
) -> None:
    monkeypatch.setattr("batch.pipeline.MAX_HELD_BYTES", 1000)
    model, run = Holding(stand_in_process.pinned), RunState()
    scans = [ScanObject(f"s3://b/{n}", size_bytes, "e", WHEN) for n in range(50)]
    journal = Journal(
        FolderStore(tmp_path), "run", schema_of({"label": "string", "error": "string"}), print
    )
    score_objects(scans, model.fetch, model, journal, Concurrency(16, 4), run)  # type: ignore[arg-type]
    assert run.rows_scored == 50
    assert size_bytes <= model.most <= most


def test_settings_and_tasks_travel(job: JobSettings, stand_in_process: ModelProcess) -> None:
    import pickle

    task = spark.Task(job, stand_in_process.pinned, "m.zip", schema_of(stand_in_process.columns))
    assert pickle.loads(pickle.dumps(task)) == task
