"""One job from its settings to its summary."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from batch.faults import CannotRunError
from batch.local import score_here
from batch.memory import give_memory_back
from batch.model_process import ModelProcess
from batch.progress import ProgressDisplay, RunState, log
from batch.pyfunc import PinnedModel, pinned_model
from batch.report import summarise
from batch.series.engine import answer_with
from batch.series.finish import SeriesOutcome, finish_series
from batch.series.given import GivenSeries, given_series
from batch.settings import JobSettings
from batch.source.listing import ScanObject
from batch.source.selection import SelectedPage
from batch.source.source import Source
from batch.store.lock import Lock
from batch.store.stores import Store, open_store
from batch.summary import TableCounts, count_rows, write_results
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
from batch.table.output import Output
from batch.table.parts import answers_series, schema_of
from batch.tracking import tracked_run

Pages = Iterator[SelectedPage]


def dry_run(settings: JobSettings) -> dict[str, Any]:
    """Count what would be scored. No model is loaded and nothing is written."""
    run = RunState()
    for page in _source(settings).pages_with_objects():
        run.add_page(page)
    return {
        "input": settings.input.uri,
        "output": settings.output.uri,
        "objects": run.objects_listed,
        "bytes": run.bytes_listed,
        "objects_passed_over": run.objects_passed_over,
    }


def run_job(settings: JobSettings, stop: threading.Event) -> dict[str, Any]:
    """Score what is not scored yet and return the summary of the whole output.

    Args:
        stop: set it to make the job end soon with everything durable.

    Raises:
        CannotRunError: the job could not start or not finish; what was scored is kept.
    """
    run = RunState(stop)
    if settings.output.overlaps(settings.input):
        raise CannotRunError(
            f"The output {settings.output.uri} and the input {settings.input.uri} lie inside one "
            "another, so results would be listed as scans. Choose an output beside the input."
        )
    source = _source(settings)
    pages = source.pages_with_objects()
    store = open_store(settings.output, settings.access)
    store.names(JOB_NAME)  # some servers make a bucket that is missing when something is written
    with (
        Lock(store, stop.set) as lock,
        given_series(settings.series_table, settings.input, settings.access) as given,
        pinned_model(settings.model_uri) as pinned,
    ):
        owner = None if settings.overwrite else read_ownership(store)
        if owner:
            says = given.says if given else ""
            require_same_job(
                store, owner, settings.input.uri, settings.selection, settings.format, says
            )
        with ModelProcess(pinned) as model:
            columns = model.columns
            if owner:
                columns = require_same_model(store, owner, pinned.family, columns)
            _refuse_table_without_series(given, columns)
            with tracked_run(settings, pinned) as tracked:
                output = _open_output(settings, store, owner, pinned, columns, given)
                objects = _to_do(pages, output, pinned, settings.retry_failed, run)
                _score(settings, source, objects, model, output, run)
                lock.check()
                _refuse_to_finish_if_stopped(run)
                counts, kept = _finish(settings, output, run)
                lock.check()
                series = _finish_series(settings, output, model, given, lock, run)
                lock.check()
                summary = summarise(settings, pinned, counts, kept, series, run, tracked.run_id)
                write_results(store, summary, counts)
                tracked.log_results(summary, counts)
    return summary


def _source(settings: JobSettings) -> Source:
    return Source(settings.input, settings.access, settings.selection, settings.inventory)


def _open_output(
    settings: JobSettings,
    store: Store,
    owner: Ownership | None,
    pinned: PinnedModel,
    columns: dict[str, str],
    given: GivenSeries | None,
) -> Output:
    if settings.overwrite:
        clear(store)
    now = Ownership(
        settings.input.uri,
        settings.selection.include,
        settings.selection.exclude,
        pinned.family,
        settings.format,
        columns,
        given.says if given else "",
    )
    if now != owner:
        write_ownership(store, now)
    output = Output(store, settings.format, schema_of(columns))
    output.load()
    return output


def _to_do(
    pages: Pages, output: Output, pinned: PinnedModel, retry_failed: bool, run: RunState
) -> Iterator[ScanObject]:
    """Yield the objects without a row for this content and this model."""
    index = output.index
    for page in _one_ahead(pages):
        scans = page.objects
        found = index.find([scan.uri for scan in scans])
        made_from = np.array([version_of(scan.etag, pinned.digest) for scan in scans], np.int64)
        known = found.rows >= 0
        index.mark_seen(found.rows[known])
        done = known & (found.versions == made_from)
        if retry_failed:
            done &= ~found.failed
        run.add_page(page)
        run.objects_skipped += int(done.sum())
        yield from (scan for scan, is_done in zip(scans, done, strict=True) if not is_done)


def _one_ahead(pages: Pages) -> Pages:
    """List the next page while this one is being scored."""
    with ThreadPoolExecutor(1, thread_name_prefix="list") as pool:
        coming = pool.submit(next, pages, None)
        while (page := coming.result()) is not None:
            coming = pool.submit(next, pages, None)
            yield page


def _score(
    settings: JobSettings,
    source: Source,
    objects: Iterator[ScanObject],
    model: ModelProcess,
    output: Output,
    run: RunState,
) -> None:
    """Score with the engine that was asked for, showing progress."""
    run.scoring_since = time.monotonic()
    threading.Thread(target=_count_total, args=(source, run), daemon=True).start()
    with ProgressDisplay(run):
        if settings.engine == "spark":
            from batch.spark import score_on_spark

            model.close()  # the executors load it themselves
            score_on_spark(objects, settings, model.pinned, output, run)
        else:
            score_here(objects, source, model, output, settings.concurrency, run)


def _refuse_table_without_series(given: GivenSeries | None, columns: dict[str, str]) -> None:
    if given and not answers_series(columns):
        raise CannotRunError(
            "--series-table needs a model that answers series, and this one answers slices only. "
            "Leave it out or choose another --model-uri."
        )


def _finish_series(
    settings: JobSettings,
    output: Output,
    model: ModelProcess,
    given: GivenSeries | None,
    lock: Lock,
    run: RunState,
) -> SeriesOutcome:
    """Bring places and series table up to date, with the engine that was asked for."""

    def check() -> None:
        lock.check()
        _refuse_to_finish_if_stopped(run)

    answer = answer_with(settings, model, output, check) if settings.series else None
    output.forget_index()
    give_memory_back()
    began = time.monotonic()
    outcome = finish_series(output, model.pinned, given, answer)
    run.series_s = time.monotonic() - began
    if outcome.sentence:
        log(outcome.sentence)
    return outcome


def _refuse_to_finish_if_stopped(run: RunState) -> None:
    if run.stop.is_set():
        raise CannotRunError(
            f"Stopped after {run.rows_written} rows; they are kept. Run the same command again to "
            "go on."
        )


def _count_total(source: Source, run: RunState) -> None:
    """Count the listing beside the scoring, for the time left."""
    total = 0
    with contextlib.suppress(Exception):  # a nicety: the job itself meets what is wrong
        for page in source.pages():
            total += len(page.objects)
            if run.stop.is_set():
                return
        run.objects_total = total


def _finish(
    settings: JobSettings, output: Output, run: RunState
) -> tuple[TableCounts, dict[str, int]]:
    """Bring every row into a part, and check that each object listed has exactly one."""
    output.publish()
    unseen = output.index.count_unseen()
    limited = settings.selection.limit is not None
    if not limited:
        output.drop_unseen()
    counts = count_rows(output)
    beyond_limit = unseen if limited else 0
    expected = run.objects_listed + beyond_limit
    if counts.rows != expected:
        raise CannotRunError(
            f"Expected {expected} rows, one for each object listed, and found {counts.rows} in "
            f"{output.store.uri}. Run the same command again; if that does not help, add "
            "--overwrite."
        )
    output.sweep()
    return counts, {"rows_removed": unseen - beyond_limit, "rows_beyond_limit": beyond_limit}
