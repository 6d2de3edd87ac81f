"""The same job on a Spark cluster: the driver lists and publishes, the executors read and score.

The driver hands out objects in waves of tasks. A task reads its objects from S3, scores them with
the pipeline that one machine uses, and writes its rows to the journal as it goes; it returns the
segments' names. So the rows never travel through Spark, a lost executor costs what was not in its
journal yet, and resume, summary and exit codes are the very same code.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import threading
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from batch.faults import CannotRunError
from batch.model_process import ModelProcess
from batch.pipeline import score_objects
from batch.progress import RunState
from batch.pyfunc import PinnedModel
from batch.scratch import scratch_folder
from batch.settings import JobSettings
from batch.source.listing import ScanObject
from batch.source.source import Source
from batch.store.stores import Store, open_store
from batch.table.journal import JOURNAL, Journal, read_segment
from batch.table.output import Output

TASK_OBJECTS = 512  # at most; two batch windows
TASKS_PER_SLOT = 4  # in a wave, so that a slow task leaves no core idle
WAVES = 2  # under way together: one finishes while the next is running

_models: dict[str, ModelProcess] = {}  # of this worker process, by the model's digest


@dataclass(frozen=True)
class Task:
    """What every task needs; values that Spark can pickle."""

    job: JobSettings
    model: PinnedModel  # its folder is the driver's; executors have the zip file
    model_zip: str
    schema: pa.Schema


@dataclass(frozen=True)
class TaskResult:
    """What a task has done: journal segments that are durable, and counts."""

    segments: list[str]
    objects_read: int
    bytes_read: int
    rows_scored: int
    rows_failed: int
    fault: str | None = None


def score_on_spark(
    objects: Iterator[ScanObject],
    settings: JobSettings,
    model: PinnedModel,
    output: Output,
    run: RunState,
) -> None:
    """Score every object on a cluster; the driver moves rows from the journal into parts.

    Raises:
        CannotRunError: Spark cannot be started, or a task met something that ends the job.
    """
    with cluster(settings, model, output.schema) as (context, task):
        _run_waves(objects, context, task, output, run)


@contextlib.contextmanager
def cluster(
    settings: JobSettings, model: PinnedModel, schema: pa.Schema
) -> Iterator[tuple[Any, Task]]:
    """Have a Spark context whose executors have the model and this package, and what tasks need.

    Raises:
        CannotRunError: Spark cannot be started.
    """
    with scratch_folder("spark") as scratch:
        context = _start(settings.master)
        try:
            model_zip = scratch / f"model-{model.digest[:16]}.zip"
            _zip(model.folder, model_zip, "")
            _zip(Path(__file__).parent, scratch / "batch.zip", "batch/")
            context.addFile(str(model_zip))
            context.addPyFile(str(scratch / "batch.zip"))
            yield context, Task(settings, model, model_zip.name, schema)
        finally:
            context.stop()


def _start(master: str | None) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its advice on versions of pandas, which is not used here
        return _start_context(master)


def _start_context(master: str | None) -> Any:
    try:
        from py4j.protocol import Py4JError
        from pyspark import SparkConf, SparkContext
        from pyspark.errors import PySparkException
    except ImportError as error:
        raise CannotRunError(
            "--engine spark needs pyspark: pip install -r requirements-spark.txt, and Java 17."
        ) from error
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    conf = SparkConf().setAppName("batch scoring").setIfMissing("spark.master", "local[*]")
    conf.set("spark.ui.showConsoleProgress", "false").set("spark.log.level", "ERROR")
    conf.set("spark.python.worker.reuse", "true").setIfMissing("spark.task.maxFailures", "8")
    if master:
        conf.setMaster(master)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        context = SparkContext(conf=conf)
    except (PySparkException, OSError, Py4JError) as error:
        raise CannotRunError(
            f"Spark cannot be started ({' '.join(str(error).split())[:200]}). It needs Java 17 "
            "(JAVA_HOME or `java` on PATH) and a reachable --master."
        ) from error
    if threading.current_thread() is threading.main_thread():
        for number, handler in handlers.items():  # Spark puts its own in place of the job's
            signal.signal(number, handler)
    return context


def _zip(folder: Path, target: Path, prefix: str) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.suffix != ".pyc":
                archive.write(path, prefix + path.relative_to(folder).as_posix())


def _run_waves(
    objects: Iterator[ScanObject], context: Any, task: Task, output: Output, run: RunState
) -> None:
    slots = context.defaultParallelism
    started = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
    waves = enumerate(_waves(objects, slots * TASKS_PER_SLOT * TASK_OBJECTS))
    running: set[Future[list[TaskResult]]] = set()
    with ThreadPoolExecutor(WAVES, thread_name_prefix="wave") as pool:
        try:
            while not run.stop.is_set():
                while len(running) < WAVES and (numbered := next(waves, None)):
                    number, wave = numbered
                    name = f"{started}-w{number:05d}"
                    running.add(pool.submit(_run_wave, context, wave, slots, task, name))
                if not running:
                    break
                done, running = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
                for wave_done in done:
                    _collect(_results(wave_done), output, run)
        finally:
            context.cancelAllJobs()


def _waves(scans: Iterator[ScanObject], size: int) -> Iterator[list[ScanObject]]:
    while wave := list(islice(scans, size)):
        yield wave


def _run_wave(
    context: Any, wave: list[ScanObject], slots: int, task: Task, name: str
) -> list[TaskResult]:
    per_task = min(TASK_OBJECTS, max(task.job.concurrency.batch_size, len(wave) // (slots * 2)))
    tasks = -(-len(wave) // per_task)

    def run(number: int, scans: Iterable[ScanObject]) -> Iterator[TaskResult]:
        yield run_task(f"{name}-t{number:05d}", list(scans), task)

    results: list[TaskResult] = (
        context.parallelize(wave, tasks).mapPartitionsWithIndex(run).collect()
    )
    return results


def _results(wave: Future[list[TaskResult]]) -> list[TaskResult]:
    with on_the_cluster():
        return wave.result()


@contextlib.contextmanager
def on_the_cluster() -> Iterator[None]:
    """Turn whatever fails on the cluster into one sentence."""
    try:
        yield
    except Exception as error:  # Py4J wraps whatever happened there
        lines = [line for line in str(error).splitlines() if line.strip()]
        detail = next((line for line in lines if "Error" in line or "failure" in line), lines[0])
        raise CannotRunError(
            f"A Spark task failed for good ({detail.strip()[:300]}). What was scored is kept; run "
            "the same command again to go on."
        ) from error


def _collect(results: list[TaskResult], output: Output, run: RunState) -> None:
    for result in results:
        run.objects_read += result.objects_read
        run.bytes_read += result.bytes_read
        run.rows_scored += result.rows_scored
        run.rows_failed += result.rows_failed
        for name in result.segments:
            output.adopt(name, read_segment(output.store, name, output.schema))
    for result in results:
        if result.fault:
            raise CannotRunError(result.fault)


def run_task(name: str, scans: list[ScanObject], task: Task) -> TaskResult:
    """Score one task's objects on an executor, going on from what a lost attempt has written.

    Args:
        name: the task's segments begin with it, whichever attempt writes them.
    """
    from pyspark import TaskContext

    context: Any = TaskContext.get()
    job = task.job
    store = open_store(job.output, job.access)
    segments = store.names(f"{JOURNAL}{name}-")
    run, done = _rows_there(store, segments, task.schema)

    def adopt(segment: str, _table: pa.Table) -> None:
        segments.append(segment)

    fault = None
    try:
        score_objects(
            (scan for scan in scans if scan.uri not in done),
            Source(job.input, job.access).fetch,
            model_of(task),
            Journal(store, f"{name}-a{context.taskAttemptId():08d}", task.schema, adopt),
            job.concurrency,
            run,
        )
    except CannotRunError as error:  # as it would on the next attempt
        fault = str(error)
    return TaskResult(
        segments, run.objects_read, run.bytes_read, run.rows_scored, run.rows_failed, fault
    )


def _rows_there(store: Store, segments: list[str], schema: pa.Schema) -> tuple[RunState, set[str]]:
    """Count the rows of an earlier attempt's segments; return the objects they are of as well."""
    run, done = RunState(), set[str]()
    for segment in segments:
        table = read_segment(store, segment, schema)
        done.update(table["uri"].to_pylist())
        run.rows_failed += table.num_rows - table["error"].null_count
    run.rows_scored = len(done) - run.rows_failed
    return run, done


def model_of(task: Task) -> ModelProcess:
    """Return this worker process's model, loaded once."""
    from pyspark import SparkFiles

    digest = task.model.digest
    if digest not in _models:
        folder = Path(SparkFiles.getRootDirectory(), f"model-{digest}")
        if not folder.exists():
            scratch = Path(tempfile.mkdtemp(dir=folder.parent))
            with zipfile.ZipFile(SparkFiles.get(task.model_zip)) as archive:
                archive.extractall(scratch)
            try:
                scratch.rename(folder)
            except OSError:  # another worker process of this executor was first
                shutil.rmtree(scratch, ignore_errors=True)
        _models[digest] = ModelProcess(replace(task.model, folder=folder))
    return _models[digest]
