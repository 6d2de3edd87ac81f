"""What a run has done so far, and its display: a bar on a terminal, else a line every 30 s."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import click

from batch.source.selection import SelectedPage

logger = logging.getLogger("batch")

LINE_EVERY_S = 30
BAR_EVERY_S = 0.5
PREFIXES = {logging.ERROR: "Error: ", logging.WARNING: "Warning: "}


@dataclass
class RunState:
    """Counters of one run, and whether it was asked to stop.

    Each counter is written by one thread; the progress display reads them all.
    """

    stop: threading.Event = field(default_factory=threading.Event)
    started: float = field(default_factory=time.monotonic)
    scoring_since: float = field(default_factory=time.monotonic)
    objects_listed: int = 0
    bytes_listed: int = 0
    objects_passed_over: int = 0  # hidden or system files
    objects_skipped: int = 0  # they have a row for this content by this model
    objects_total: int | None = None  # once the listing has been counted
    objects_read: int = 0
    bytes_read: int = 0
    rows_scored: int = 0
    rows_failed: int = 0
    series_s: float = 0.0  # that places and series table took

    @property
    def rows_written(self) -> int:
        """Rows that this run has made, those with errors included."""
        return self.rows_scored + self.rows_failed

    def add_page(self, page: SelectedPage) -> None:
        """Count a page of the listing."""
        self.objects_listed += len(page.objects)
        self.bytes_listed += sum(scan.size_bytes for scan in page.objects)
        self.objects_passed_over += page.passed_over


def logs_objects() -> bool:
    """Return whether the log is one of JSON objects: then, and only then, it is set up."""
    return logger.level != logging.NOTSET


def log(text: str, level: int = logging.INFO, facts: Mapping[str, Any] | None = None) -> None:
    """Write one line to standard error.

    Args:
        level: one of logging's.
        facts: for programs: further members of the JSON object.
    """
    if logs_objects():
        logger.log(level, text, extra={"facts": {"message": text, **(facts or {})}})
    else:
        click.echo(PREFIXES.get(level, "") + text, err=True)


class ProgressDisplay:
    """Show a run's counters while the block runs."""

    def __init__(self, run: RunState) -> None:
        self._run = run
        self._done = threading.Event()
        has_bar = sys.stderr.isatty() and not logs_objects()
        self._thread = threading.Thread(
            target=self._bar if has_bar else self._lines, name="progress", daemon=True
        )

    def __enter__(self) -> ProgressDisplay:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()

    def _bar(self) -> None:
        from tqdm import tqdm

        with tqdm(unit="scan", file=sys.stderr, dynamic_ncols=True, smoothing=0.1) as bar:
            ended = False
            while not ended:
                ended = self._done.wait(BAR_EVERY_S)
                skipped = self._run.objects_skipped
                if skipped != bar.initial:
                    bar.n += skipped - bar.initial
                    bar.initial = skipped
                bar.total = self._run.objects_total
                bar.set_postfix_str(f"{self._run.rows_failed} errors", refresh=False)
                bar.update(skipped + self._run.rows_written - bar.n)
                bar.refresh()

    def _lines(self) -> None:
        while not self._done.wait(LINE_EVERY_S):
            now = time.monotonic()
            log(progress_line(self._run, now), facts=progress_facts(self._run, now))


def progress_facts(run: RunState, now: float) -> dict[str, float | None]:
    """Return rows, rate, errors and, once the listing is counted, all objects and the time left."""
    done = run.rows_written
    rate = done / max(now - run.scoring_since, 1e-9)
    left_s = None
    if run.objects_total is not None and rate > 0:
        left_s = max(run.objects_total - run.objects_skipped - done, 0) / rate
    return {
        "rows": done + run.objects_skipped,
        "objects": run.objects_total,
        "rows_per_s": round(rate, 3),
        "errors": run.rows_failed,
        "left_s": None if left_s is None else round(left_s, 1),
    }


def progress_line(run: RunState, now: float) -> str:
    """Return the same as one line for people."""
    facts = progress_facts(run, now)
    line = f"{facts['rows']} rows"
    if facts["objects"] is not None:
        line += f" of {facts['objects']}"
    line += f", {facts['rows_per_s']:.1f}/s, {facts['errors']} errors"
    if facts["left_s"] is not None:
        line += f", about {_duration(facts['left_s'])} left"
    return line


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
