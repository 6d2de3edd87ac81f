"""One job from its settings to its summary."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from itertools import chain
from queue import SimpleQueue
from typing import Any

import numpy as np

from batch.faults import CannotRunError
from batch.locations import Access, Location, input_client
from batch.pipeline import Pace, Stamp, Tally, score_all
from batch.progress import Progress, say
from batch.pyfunc import PinnedModel, Scorer, pinned_model
from batch.report import parameters, summarise
from batch.source.fetch import make_reader
from batch.source.inventory import inventory_pages
from batch.source.listing import ScanObject, list_objects
from batch.source.selection import SelectedPage, Selection, select
from batch.store.lock import Lock
from batch.store.stores import Store, open_store
from batch.summary import Counts, count_rows, write_results
from batch.table.index import version_of
from batch.table.job_record import (
    JOB_NAME,
    Ownership,
    clear,
    read_ownership,
    require_same_job,
    require_same_model,
    write_ownership,
)
from batch.table.journal import SegmentSink
from batch.table.output import JOURNAL, Output
from batch.table.parts import schema_of
from batch.tracking import TrackedRun

SelectedPages = Iterator[SelectedPage]


@dataclass(frozen=True)
class Job:
    """Everything the user asked for."""

    input: Location
    output: Location
    model_uri: str
    access: Access
    pace: Pace
    selection: Selection = field(default_factory=Selection)
    inventory: str | None = None
    format: str = "parquet"
    retry_failed: bool = False
    overwrite: bool = False
    tracking: bool = True
    engine: str = "local"
    master: str | None = None

    @cached_property
    def input_client(self) -> Any | None:
        """The client that lists and reads. The output has its own, so throttled reads spare it."""
        return input_client(self.input, self.access)

    def pages(self) -> SelectedPages:
        """Return a new listing of the objects to score."""
        if self.inventory:
            pages = inventory_pages(self.inventory, self.input, self.access)
        else:
            pages = list_objects(self.input, self.input_client)
        return select(pages, self.input.uri, self.selection)


@dataclass
class Prepared:
    """What an engine needs: the model, the output, and the objects still to score."""

    job: Job
    model: PinnedModel
    scorer: Scorer
    columns: dict[str, str]
    output: Output
    scans: Iterator[ScanObject]
    tally: Tally
    stop: threading.Event
    check: Callable[[], None]


def dry_run(job: Job) -> dict[str, Any]:
    """Count what would be scored. No model is loaded and nothing is written."""
    total = Tally()
    for page in _not_empty(job):
        total.add_page(page)
    return {
        "input": job.input.uri,
        "output": job.output.uri,
        "objects": total.objects_listed,
        "bytes": total.bytes_listed,
        "objects_passed_over": total.objects_passed_over,
    }


def run_job(job: Job, stop: threading.Event) -> dict[str, Any]:
    """Score what is not scored yet and return the summary of the whole output.

    Args:
        stop: set it to make the job end soon with everything durable.

    Raises:
        CannotRunError: the job could not start or not finish; what was scored is kept.
    """
    started = time.monotonic()
    if job.output.overlaps(job.input):
        raise CannotRunError(
            f"The output {job.output.uri} and the input {job.input.uri} lie inside one another, "
            "so results would be listed as scans. Choose an output beside the input."
        )
    pages = _not_empty(job)
    store = open_store(job.output, job.access)
    store.names(JOB_NAME)  # some servers make a bucket that is missing when something is written
    with Lock(store, stop.set) as lock, contextlib.ExitStack() as stack:
        owner = None if job.overwrite else read_ownership(store)
        if owner:
            require_same_job(store, owner, job.input.uri, job.selection, job.format)
        model = stack.enter_context(pinned_model(job.model_uri))
        scorer = Scorer(model.folder)
        columns = scorer.columns
        if owner:
            columns = require_same_model(store, owner, model.family, columns)
        run = TrackedRun(parameters(job), model) if job.tracking else None
        counts, summary = None, None
        try:
            output = _open_output(job, store, owner, model, columns)
            tally = Tally()
            scans = _to_do(pages, output, model, job.retry_failed, tally)
            prepared = Prepared(job, model, scorer, columns, output, scans, tally, stop, lock.check)
            _score(prepared)
            lock.check()
            counts, removed = _finish(prepared)
            summary = summarise(prepared, counts, removed, started, run.run_id if run else None)
            write_results(store, summary, counts)
        finally:
            if run:
                run.end(summary, counts, finished=summary is not None)
                if run.problem:
                    say(f"Warning: the MLflow run is incomplete ({run.problem}).")
    return summary


def _not_empty(job: Job) -> SelectedPages:
    """Return the listing, once it shows that it can be read and is not empty."""
    pages = job.pages()
    met: list[SelectedPage] = []
    for page in pages:
        met.append(page)
        if page.objects:
            return chain(met, pages)
    patterns = {"match": job.selection.include, "do not match": job.selection.exclude}
    matching = " and".join(f" that {how} {', '.join(of)}" for how, of in patterns.items() if of)
    source = job.inventory or job.input.uri
    passed_over = sum(page.passed_over for page in met)
    raise CannotRunError(
        f"There are no objects{matching} in {source} under {job.input.uri}"
        + (f" ({passed_over} hidden or system files were passed over)" if passed_over else "")
        + ". Check the prefix; earlier results, if any, were left alone."
    )


def _open_output(
    job: Job,
    store: Store,
    owner: Ownership | None,
    model: PinnedModel,
    columns: dict[str, str],
) -> Output:
    if job.overwrite:
        clear(store)
    now = Ownership(
        job.input.uri,
        job.selection.include,
        job.selection.exclude,
        model.family,
        job.format,
        columns,
    )
    if now != owner:
        write_ownership(store, now)
    output = Output(store, job.format, schema_of(columns))
    output.load()
    return output


def _to_do(
    pages: SelectedPages, output: Output, model: PinnedModel, retry_failed: bool, tally: Tally
) -> Iterator[ScanObject]:
    """Yield the objects without a row for this content and this model."""
    index = output.index
    for page in _one_ahead(pages):
        scans = page.objects
        rows = index.find([scan.uri for scan in scans])
        made_from = np.array(
            [version_of(scan.etag, model.uri, model.digest) for scan in scans], np.uint64
        )
        known = rows >= 0
        index.seen[rows[known]] = True
        done = known.copy()
        done[known] = index.versions[rows[known]] == made_from[known]
        if retry_failed:
            done[known] &= ~index.failed[rows[known]]
        tally.add_page(page)
        tally.objects_skipped += int(done.sum())
        yield from (scan for scan, is_done in zip(scans, done, strict=True) if not is_done)


def _one_ahead(pages: SelectedPages) -> SelectedPages:
    """List the next page while this one is being scored."""
    with ThreadPoolExecutor(1, thread_name_prefix="list") as pool:
        coming = pool.submit(next, pages, None)
        while (page := coming.result()) is not None:
            coming = pool.submit(next, pages, None)
            yield page


def _score(prepared: Prepared) -> None:
    job, tally, stop = prepared.job, prepared.tally, prepared.stop
    counting = threading.Thread(target=_count_total, args=(job, tally, stop), daemon=True)
    counting.start()
    with Progress(tally):
        if job.engine == "spark":
            from batch.spark import score_on_spark

            score_on_spark(prepared)
        else:
            score_here(prepared)
    prepared.check()
    if stop.is_set():
        raise CannotRunError(
            f"Stopped after {tally.rows_scored + tally.rows_failed} rows; they are kept. Run the "
            "same command again to go on."
        )


def score_here(prepared: Prepared) -> None:
    """Score on this machine."""
    job, model, output = prepared.job, prepared.model, prepared.output
    wake: SimpleQueue[Any] = SimpleQueue()
    prefix = f"{JOURNAL}{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
    sink = SegmentSink(output.journal, prefix, output.schema, job.pace.segment_rows, wake)
    score_all(
        prepared.scans,
        make_reader(job.input_client),
        prepared.scorer,
        Stamp(model.uri, model.digest),
        sink,
        job.pace,
        prepared.stop,
        prepared.tally,
        wake,
    )


def _count_total(job: Job, tally: Tally, stop: threading.Event) -> None:
    """Count the listing beside the scoring, for the time left."""
    total = 0
    with contextlib.suppress(Exception):  # a nicety: the job itself meets what is wrong
        for page in job.pages():
            total += len(page.objects)
            if stop.is_set():
                return
        tally.objects_total = total


def _finish(prepared: Prepared) -> tuple[Counts, dict[str, int]]:
    job, output, tally = prepared.job, prepared.output, prepared.tally
    output.publish()
    unseen = int((~output.index.seen).sum())
    if job.selection.limit is None:
        output.drop_unseen()
    counts = count_rows(output)
    beyond_limit = unseen if job.selection.limit is not None else 0
    expected = tally.objects_listed + beyond_limit
    if counts.rows != expected:
        raise CannotRunError(
            f"Expected {expected} rows, one for each object listed, and found {counts.rows} in "
            f"{output.store.uri}. Run the same command again; if that does not help, add "
            "--overwrite."
        )
    output.sweep()
    return counts, {"rows_removed": unseen - beyond_limit, "rows_beyond_limit": beyond_limit}
