"""Score every scan under an S3 prefix or in a folder: `python -m batch INPUT OUTPUT`."""

from __future__ import annotations

import contextlib
import json
import logging
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from types import FrameType

import click

from batch.command_line import Command, LocationType, log_format_chosen, quiet_mlflows_log
from batch.faults import CannotRunError
from batch.locations import Access, Location
from batch.memory import share_memory_between_threads
from batch.progress import log, logs_objects
from logs.lines import FORMATS, TEXT


@click.command(
    cls=Command,
    context_settings={"max_content_width": 100},
    epilog="Exit codes: 0 all scored; 1 finished, some rows have errors; 2 could not run or was "
    "stopped. Research software, not a medical device.",
)
@click.argument("input", type=LocationType())
@click.argument("output", type=LocationType())
@click.option(
    "--model-uri",
    default="models:/chest-ct/Production",
    show_default=True,
    help="An MLflow pyfunc: models:/name/stage, models:/name/version, models:/name@alias, "
    "runs:/id/path or a folder.",
)
@click.option("--include", multiple=True, metavar="PATTERN", help="Only names like '*.png'.")
@click.option("--exclude", multiple=True, metavar="PATTERN", help="Not names like 'old/*'.")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first N objects.")
@click.option(
    "--inventory",
    metavar="FILE",
    help="An S3 Inventory's manifest.json, or a CSV of bucket, key, size, last-modified, etag, "
    "instead of listing INPUT.",
)
@click.option("--dry-run", is_flag=True, help="Count objects and bytes; load no model.")
@click.option("--retry-failed", is_flag=True, help="Score rows with errors again.")
@click.option("--overwrite", is_flag=True, help="Delete the rows in OUTPUT first, whosever.")
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["parquet", "csv"]),
    default="parquet",
    show_default=True,
)
@click.option(
    "--series/--no-series",
    default=True,
    show_default=True,
    help="Make series/part-*: one row for each series, if the model answers series.",
)
@click.option(
    "--series-table",
    metavar="FILE",
    help="A CSV of uri or path, series and, if known, position_mm: of which series each slice is. "
    "For pictures, which do not say.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(1, 4096),
    default=64,
    show_default=True,
    help="Scans per call of the model.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    default=16,
    show_default=True,
    help="Threads that read ahead of the model.",
)
@click.option("--endpoint-url", metavar="URL", help="Of an S3 server that is not AWS's.")
@click.option(
    "--no-sign-request",
    is_flag=True,
    help="Read INPUT without credentials: public buckets. OUTPUT is signed as ever.",
)
@click.option("--sse-kms-key-id", metavar="KEY", help="Encrypt the output with this KMS key.")
@click.option(
    "--tracking/--no-tracking", default=True, show_default=True, help="Record an MLflow run."
)
@click.option(
    "--log-format",
    type=click.Choice(FORMATS),
    default=TEXT,
    show_default=True,
    is_eager=True,
    callback=log_format_chosen,
    expose_value=False,
    help="Lines of the log on standard error: text for people, or a JSON object each.",
)
@click.option(
    "--engine",
    type=click.Choice(["local", "spark"]),
    default="local",
    show_default=True,
    help="This machine, or a Spark cluster (pip install -r requirements-spark.txt; Java 17).",
)
@click.option(
    "--master",
    metavar="URL",
    help="Of the Spark cluster; default: what spark-submit or "
    "spark-defaults.conf says, else local[*].",
)
def main(
    input: Location,
    output: Location,
    model_uri: str,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    limit: int | None,
    inventory: str | None,
    dry_run: bool,
    retry_failed: bool,
    overwrite: bool,
    file_format: str,
    series: bool,
    series_table: str | None,
    batch_size: int,
    workers: int,
    endpoint_url: str | None,
    no_sign_request: bool,
    sse_kms_key_id: str | None,
    tracking: bool,
    engine: str,
    master: str | None,
) -> None:
    """Score every scan under INPUT and write one row for each to OUTPUT.

    \b
    python -m batch s3://hospital/scans/2026-11/ s3://hospital/scores/2026-11/
    python -m batch scans/ scores/ --model-uri artifacts/training/model --no-tracking

    OUTPUT gets part-*.parquet (or .csv), series/part-*, summary.json and, last, _SUCCESS; the
    summary is printed as well. Run the same command again to go on after a stop or a kill, or to
    score what is new or has changed: an object with a row for the same content by the same model
    version is not read again. A new version of the same registered model scores everything anew in
    the same OUTPUT.
    An OUTPUT of another INPUT, --include, --exclude, --format or model is refused unless
    --overwrite.
    """
    share_memory_between_threads()
    from batch import job
    from batch.report import facts_of, last_line
    from batch.settings import Concurrency, JobSettings
    from batch.source.selection import Selection

    settings = JobSettings(
        input=input,
        output=output,
        model_uri=model_uri,
        access=Access(endpoint_url, workers, sse_kms_key_id, no_sign_request),
        concurrency=Concurrency(batch_size, workers),
        selection=Selection(include, exclude, limit),
        inventory=inventory,
        format=file_format,
        retry_failed=retry_failed,
        overwrite=overwrite,
        tracking=tracking,
        engine=engine,
        master=master,
        series=series,
        series_table=series_table or None,
    )
    if master and engine != "spark":
        raise click.UsageError("--master belongs to --engine spark. Add --engine spark.")
    began = time.monotonic()
    try:
        if dry_run:
            click.echo(json.dumps(job.dry_run(settings), indent=2))
            return
        quiet_mlflows_log()
        with stop_on_signals() as stop:
            summary = job.run_job(settings, stop)
    except CannotRunError as error:
        duration_s = round(time.monotonic() - began, 3)
        log(str(error), logging.ERROR, {"duration_s": duration_s, "exit": 2})
        sys.exit(2)
    except Exception as error:  # a defect; Python's own exit code would say "some rows have errors"
        _log_defect(error)
        sys.exit(2)
    click.echo(json.dumps(summary, indent=2))
    code = 1 if summary["rows_with_errors"] else 0
    log(last_line(summary), facts=facts_of(summary) | {"exit": code})
    if code:
        log(
            f"{summary['rows_with_errors']} of {summary['rows']} rows have errors; see the column "
            "`error`. --retry-failed scores them again."
        )
        sys.exit(code)


def _log_defect(error: Exception) -> None:
    text = "".join(traceback.format_exception(error))
    if logs_objects():
        log(
            f"A defect of the job: {type(error).__name__}.",
            logging.ERROR,
            {"traceback": text, "exit": 2},
        )
    else:
        click.echo(text, err=True, nl=False)


@contextlib.contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """Yield an event that the first SIGINT or SIGTERM sets; the second ends the process."""
    stop = threading.Event()

    def handle(number: int, _frame: FrameType | None) -> None:
        stop.set()
        log("Stopping: what is scored is being written …")
        signal.signal(number, signal.SIG_DFL)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    main()
