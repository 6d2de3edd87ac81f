"""Progress on standard error: a bar on a terminal, a line every 30 s elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType

import click

from batch.pipeline import Tally

LINE_EVERY_S = 30
BAR_EVERY_S = 0.5


def say(text: str) -> None:
    """Write one line to standard error."""
    click.echo(text, err=True)


class Progress:
    """Show a tally while the block runs."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._terminal = sys.stderr.isatty()
        self._done = threading.Event()
        self._thread = threading.Thread(
            target=self._bar if self._terminal else self._lines, name="progress", daemon=True
        )

    def __enter__(self) -> Progress:
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
                skipped = self._tally.objects_skipped
                if skipped != bar.initial:
                    bar.n += skipped - bar.initial
                    bar.initial = skipped
                bar.total = self._tally.objects_total
                bar.set_postfix_str(f"{self._tally.rows_failed} errors", refresh=False)
                bar.update(skipped + rows_done(self._tally) - bar.n)
                bar.refresh()

    def _lines(self) -> None:
        while not self._done.wait(LINE_EVERY_S):
            say(progress_line(self._tally, time.monotonic()))


def rows_done(tally: Tally) -> int:
    """Return the rows this run has made."""
    return tally.rows_scored + tally.rows_failed


def progress_line(tally: Tally, now: float) -> str:
    """Return one line: rows, rate, errors and, once the listing is counted, the time left."""
    done = rows_done(tally)
    rate = done / max(now - tally.started, 1e-9)
    line = f"{done + tally.objects_skipped} rows"
    if tally.objects_total is not None:
        line += f" of {tally.objects_total}"
    line += f", {rate:.1f}/s, {tally.rows_failed} errors"
    if tally.objects_total is not None and rate > 0:
        left_s = max(tally.objects_total - tally.objects_skipped - done, 0) / rate
        line += f", about {_duration(left_s)} left"
    return line


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
