"""The command's own kinds of values, and how it says what is wrong with its arguments."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import click

from batch.locations import Location
from batch.progress import log, logs_objects
from logs.lines import JSON, quiet_libraries, set_up_logging

OURS = "batch"
OTHER_CLOUDS = {"gs", "gcs", "abfs", "abfss", "adl", "az", "azure", "wasb", "wasbs"}


class LocationType(click.ParamType[Location]):
    """An S3 prefix or a local folder."""

    name = "s3://bucket/prefix/ or folder"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Location:
        """Parse and validate."""
        try:
            return value if isinstance(value, Location) else Location.parse(value)
        except ValueError as error:
            text = str(error)
            if urlsplit(value).scheme in OTHER_CLOUDS:
                text += (
                    " On Google Cloud Storage and Azure the job cannot promise one row for each "
                    "object; docs/batch.md says how to score a copy."
                )
            self.fail(text, param, ctx)


def log_format_chosen(_context: click.Context, _option: click.Parameter, chosen: str) -> str:
    """Set the log up, before any other option is looked at."""
    if chosen == JSON:
        set_up_logging(OURS, JSON)
    return chosen


def quiet_mlflows_log() -> None:
    """Let MLflow write no lines of text among the objects."""
    if logs_objects():
        import mlflow.pyfunc  # noqa: F401 - it sets up logging of its own when it is imported

        quiet_libraries(OURS)


class Command(click.Command):
    """A command that says what is wrong with its arguments in the format of its log."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Parse the arguments."""
        with _usage_as_a_record():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with _usage_as_a_record():
            return super().invoke(ctx)


@contextlib.contextmanager
def _usage_as_a_record() -> Iterator[None]:
    try:
        yield
    except click.UsageError as error:
        if not logs_objects():
            raise
        log(error.format_message(), logging.ERROR, {"exit": error.exit_code})
        raise click.exceptions.Exit(error.exit_code) from error
