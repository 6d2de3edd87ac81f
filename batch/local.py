"""The job on this machine."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from batch.model_process import ModelProcess
from batch.pipeline import score_objects
from batch.progress import RunState
from batch.settings import Concurrency
from batch.source.listing import ScanObject
from batch.source.source import Source
from batch.table.journal import Journal
from batch.table.output import Output


def score_here(
    objects: Iterable[ScanObject],
    source: Source,
    model: ModelProcess,
    output: Output,
    concurrency: Concurrency,
    run: RunState,
) -> None:
    """Score every object; rows move from the journal into parts as they become many.

    Raises:
        CannotRunError: something ends the job; rows scored so far are durable.
    """
    prefix = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
    journal = Journal(output.store, prefix, output.schema, output.adopt)
    score_objects(objects, source.fetch, model, journal, concurrency, run)
