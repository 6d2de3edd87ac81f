"""What the user asked for, as plain values that can travel to Spark's executors."""

from __future__ import annotations

from dataclasses import dataclass, field

from batch.locations import Access, Location
from batch.source.selection import Selection

MIN_WINDOW = 256  # objects


@dataclass(frozen=True)
class Concurrency:
    """How much is under way at once.

    Attributes:
        batch_size: scans per call of the model.
        workers: threads that read ahead of the model.
    """

    batch_size: int
    workers: int

    @property
    def window(self) -> int:
        """Objects that a kill may cost: 256, or four batches where that is more.

        It bounds the objects that are being read, or were read and whose rows are not durable yet.
        """
        return max(MIN_WINDOW, 4 * self.batch_size)

    @property
    def segment_rows(self) -> int:
        """Rows that become durable together, so that writing overlaps with scoring."""
        return self.window // 4

    @property
    def read_ahead(self) -> int:
        """Objects held or being read, and not scored: enough to keep threads and model busy."""
        return min(2 * self.batch_size + self.workers, self.window // 2)


@dataclass(frozen=True)
class JobSettings:
    """One job. Each attribute is an option or argument of the command."""

    input: Location
    output: Location
    model_uri: str
    access: Access
    concurrency: Concurrency
    selection: Selection = field(default_factory=Selection)
    inventory: str | None = None
    format: str = "parquet"
    retry_failed: bool = False
    overwrite: bool = False
    tracking: bool = True
    engine: str = "local"
    master: str | None = None
    series: bool = True
    series_table: str | None = None

    def parameters(self) -> dict[str, object]:
        """Return what the MLflow run records as parameters; what was not given is None."""
        return {
            "input": self.input.uri,
            "output": self.output.uri,
            "model_uri": self.model_uri,
            "include": ", ".join(self.selection.include) or None,
            "exclude": ", ".join(self.selection.exclude) or None,
            "limit": self.selection.limit,
            "inventory": self.inventory,
            "format": self.format,
            "batch_size": self.concurrency.batch_size,
            "workers": self.concurrency.workers,
            "no_sign_request": self.access.no_sign_request,
            "retry_failed": self.retry_failed,
            "engine": self.engine,
            "master": self.master,
            "series": self.series,
            "series_table": self.series_table,
        }
