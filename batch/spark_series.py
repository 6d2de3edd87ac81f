"""The series table on a Spark cluster: slices are shuffled by series, executors ask the model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import pyarrow as pa

from batch.pyfunc import PinnedModel
from batch.series.answers import MadeFrom, answers
from batch.series.slices import BATCH_ROWS, NOT_COPIED, part_of
from batch.settings import JobSettings
from batch.spark import Task, cluster, model_of, on_the_cluster
from batch.store.stores import open_store
from batch.table.output import Output
from batch.table.part_files import PartFiles

PARTITIONS_PER_SLOT = 2

# Partition, series, has no place, place, URI: the order in which slices are answered.
Key = tuple[int, str, bool, int, str]
Slice = tuple[Any, ...]


def answers_on_spark(
    settings: JobSettings, model: PinnedModel, output: Output, parts: int, made_from: MadeFrom
) -> Iterator[pa.Table]:
    """Yield the rows of the series table in order of its parts.

    The driver holds the rows of one part at a time; those of slices stay on the cluster.

    Raises:
        CannotRunError: Spark cannot be started, or a task failed for good.
    """
    with cluster(settings, model, output.schema) as (context, task):
        split = max(1, context.defaultParallelism * PARTITIONS_PER_SLOT // parts)
        numbers = output.numbers

        def read(number: int) -> Iterator[tuple[Key, Slice]]:
            return keyed_slices(number, task, parts, split)

        def ask(slices: Iterable[tuple[Key, Slice]]) -> Iterator[bytes]:
            return answered(slices, task, made_from)

        with on_the_cluster():
            rows = (
                context.parallelize(numbers, len(numbers))
                .flatMap(read)
                .repartitionAndSortWithinPartitions(parts * split, lambda key: key[0])
                .mapPartitions(ask)
            )
        for part in range(parts):
            with on_the_cluster():
                partitions = range(part * split, (part + 1) * split)
                found = context.runJob(rows, list, list(partitions))
            yield from (pa.ipc.open_stream(data).read_all() for data in found)


def keyed_slices(number: int, task: Task, parts: int, split: int) -> Iterator[tuple[Key, Slice]]:
    """Read one slice part on an executor and yield the slices that are of a series."""
    job = task.job
    files = PartFiles(open_store(job.output, job.access), job.format, task.schema)
    (table,) = files.read([number])
    kept = _kept(task.schema)
    for row in table.select(kept.names).to_pylist():
        series, place = row["series_uid"], row["slice_index"]
        if series is not None:
            partition = part_of(series, parts) * split + part_of(series, parts * split) // parts
            key = (partition, series, place is None, place or 0, row["uri"])
            yield key, tuple(row.values())


def answered(
    slices: Iterable[tuple[Key, Slice]], task: Task, made_from: MadeFrom
) -> Iterator[bytes]:
    """Answer a partition's series on an executor; yield tables as Arrow's stream format."""
    for table in answers(_tables(slices, _kept(task.schema)), model_of(task), made_from):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        yield sink.getvalue().to_pybytes()


def _tables(slices: Iterable[tuple[Key, Slice]], schema: pa.Schema) -> Iterator[pa.Table]:
    rows = (row for _key, row in slices)
    while some := list(islice(rows, BATCH_ROWS)):
        columns = zip(*some, strict=True)
        yield pa.table(
            [pa.array(values, f.type) for values, f in zip(columns, schema, strict=True)],
            schema=schema,
        )


def _kept(schema: pa.Schema) -> pa.Schema:
    return pa.schema([field for field in schema if field.name not in NOT_COPIED])
