"""Who answers the series: this machine, or a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pyarrow as pa

from batch.model_process import ModelProcess
from batch.series.answers import MadeFrom, answers
from batch.series.finish import Answer
from batch.series.slices import LocalSlices
from batch.settings import JobSettings
from batch.table.output import Output


def answer_with(
    settings: JobSettings, model: ModelProcess, output: Output, check: Callable[[], None]
) -> Answer:
    """Return the function that answers series with the engine that was asked for.

    Args:
        check: is called now and then; what it raises ends the job.
    """

    def answer(slices: LocalSlices, parts: int, made_from: MadeFrom) -> Iterator[pa.Table]:
        if settings.engine == "spark":
            from batch.spark_series import answers_on_spark

            tables = answers_on_spark(settings, model.pinned, output, parts, made_from)
        else:
            tables = answers(slices.sorted(parts), model, made_from)
        for table in tables:
            check()
            yield table

    return answer
