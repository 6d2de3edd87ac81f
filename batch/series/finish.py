"""The end of a job: each slice gets its place, and the series table is made if it is not there."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pyarrow as pa

from batch.faults import CannotRunError
from batch.pyfunc import PinnedModel
from batch.scratch import scratch_folder
from batch.series.answers import MadeFrom, series_schema
from batch.series.files import SERIES, SeriesCounts, SeriesFiles, SeriesRecord, parts_needed
from batch.series.given import GivenSeries
from batch.series.slices import LocalSlices, local_slices
from batch.series.sorting import MEMORY_LIMITS, SortingMemoryError
from batch.table.output import Output
from batch.table.parts import answers_series

# Makes rows of the series table, in order of its parts, from: the slices, how many parts, and what
# each row is to name.
Answer = Callable[[LocalSlices, int, MadeFrom], Iterator[pa.Table]]


@dataclass(frozen=True)
class SeriesOutcome:
    """What the output says of series.

    Attributes:
        counts: of the series table; None where there is none.
        record: what it was made from; None where the model answers slices only.
        sentence: for the log; empty where there is nothing to say.
    """

    counts: SeriesCounts | None = None
    record: SeriesRecord | None = None
    sentence: str = ""


def finish_series(
    output: Output, pinned: PinnedModel, given: GivenSeries | None, answer: Answer | None
) -> SeriesOutcome:
    """Bring places and series table up to date with the slice parts, which have all been read.

    The order of the writes: places into the slice parts, then the parts of the series table, then
    the record that names the digest of those slice parts. After a kill anywhere in between the
    record does not match what is there, so the next run makes it anew.

    Args:
        answer: see `Answer`; None leaves the series table out.

    Raises:
        CannotRunError: what came out is not one row per series, or the output cannot be written.
    """
    if not answers_series(output.schema.names):
        return SeriesOutcome(sentence="No series table is made: this model answers slices only.")
    files = SeriesFiles(output.store, output.files.format, series_schema(output.schema))
    record, model = files.record(), pinned.digest if answer else ""
    if record and (record.slices, record.given) == (output.digest(), _digest(given)):
        counts = files.counts(record)
        if counts is not None and (not answer or record.model == model):
            return _outcome(counts, record, given)
    output.unfinish()
    *lower, highest = MEMORY_LIMITS
    for limit in lower:
        with contextlib.suppress(SortingMemoryError):
            return _outcome(*_made(output, files, pinned, given, answer, limit), given)
    return _outcome(*_made(output, files, pinned, given, answer, highest), given)


def _made(
    output: Output,
    files: SeriesFiles,
    pinned: PinnedModel,
    given: GivenSeries | None,
    answer: Answer | None,
    memory_limit: str,
) -> tuple[SeriesCounts, SeriesRecord]:
    """Place slices and make the series table; return what it holds and its record."""
    with scratch_folder("series") as folder, local_slices(folder, memory_limit) as slices:
        record = replace(_place(output, slices, given), model=pinned.digest if answer else "")
        series = slices.count_series()
        if answer is None or not series:
            files.remove()
            files.write_record(record)
            return SeriesCounts(), record
        parts = parts_needed(series)
        made_from = MadeFrom(pinned.uri, pinned.digest, record.slices)
        digests, counts = files.replace(answer(slices, parts, made_from), parts)
        if counts.rows != series:
            raise CannotRunError(
                f"Expected {series} rows, one for each series, and made {counts.rows} in "
                f"{output.store.uri}{SERIES}. Run the same command again; if that does not help, "
                "add --overwrite."
            )
        record = replace(record, parts=digests)
        files.write_record(record)
    return counts, record


def _place(output: Output, slices: LocalSlices, given: GivenSeries | None) -> SeriesRecord:
    """Write series, position and place of every slice into the slice parts."""
    for number, table in output.numbered_tables():
        slices.add(number, table)
    for number, columns in slices.place(given):
        slices.add(number, output.replace_columns(number, columns))
    return SeriesRecord(
        output.digest(),
        _digest(given),
        without_series=slices.count_without_series(),
        unmet=slices.count_unmet(given) if given else 0,
    )


def _outcome(
    counts: SeriesCounts, record: SeriesRecord, given: GivenSeries | None
) -> SeriesOutcome:
    sentences = []
    if record.model and not record.parts:
        sentences.append(
            "No series table is made: no slice says of which series it is. For pictures, "
            "--series-table says so."
        )
    if given and record.unmet:
        sentences.append(
            f"{record.unmet} of {given.lines} lines of the table of series name no slice that was "
            "listed."
        )
    return SeriesOutcome(counts if record.parts else None, record, " ".join(sentences))


def _digest(given: GivenSeries | None) -> str:
    return given.digest if given else ""
