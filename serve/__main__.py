"""`python -m serve`: serve a model over HTTP, with a page to try a scan."""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path

import click

from logs.lines import FORMATS, TEXT
from serve.http.access import KEYS_VARIABLE, is_loopback, read_keys
from serve.http.request_limits import RequestLimits
from serve.log import set_up_logging
from serve.model_files import ModelNotFoundError
from serve.process import (
    CannotStartError,
    keep_blas_to_one_thread,
    serve_alone,
    serve_with_workers,
)
from serve.settings import ServerSettings

logger = logging.getLogger("serve")
MEBIBYTE = 1024 * 1024
SHORT_KEY = 16


def checked_keys(key_file: Path | None, host: str, no_auth: bool) -> tuple[str, ...]:
    """Return the API keys, after checking that an open server is meant.

    Raises:
        click.UsageError: keys that cannot be read, or none on an address others can reach.
    """
    try:
        keys = read_keys(key_file, os.environ.get(KEYS_VARIABLE))
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if keys and no_auth:
        raise click.UsageError("Expected API keys or --no-auth, received both: leave one out.")
    if not keys and not no_auth and not is_loopback(host):
        raise click.UsageError(
            f"Others can reach {host}, and there is no API key: give --api-key-file or "
            f"{KEYS_VARIABLE}, or say --no-auth to let everybody in."
        )
    if short := sum(len(key) < SHORT_KEY for key in keys):
        logger.warning("%d of the API keys are shorter than %d characters", short, SHORT_KEY)
    if not keys and not is_loopback(host):
        logger.warning("No API key is asked for: everybody who reaches %s can use it", host)
    return tuple(keys)


@click.command(
    epilog="Example: python -m serve --model-uri models:/chest-ct/Production --port 5000"
)
@click.option("--model-uri", required=True, envvar="MODEL_URI", help="models:/…, s3://…, a folder.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=5000, show_default=True, type=click.IntRange(1, 65535))
@click.option(
    "--workers", default=1, show_default=True, type=click.IntRange(1), help="Server processes."
)
@click.option(
    "--api-key-file",
    type=click.Path(path_type=Path),
    help=f"File with API keys, one a line. {KEYS_VARIABLE} adds keys, separated by commas.",
)
@click.option("--no-auth", is_flag=True, help="Let everybody in on an address others can reach.")
@click.option("--allow-origin", multiple=True, help="Web site whose scripts may call; repeatable.")
@click.option(
    "--allowed-hosts",
    default="",
    metavar="NAMES",
    help="Names of this server that clients may ask for, separated by commas; * is every name. "
    "Without: localhost, and by its IP address where --host is not loopback.",
)
@click.option("--max-body-mb", default=32, show_default=True, type=click.IntRange(1))
@click.option("--max-rows", default=256, show_default=True, type=click.IntRange(1))
@click.option(
    "--max-slices",
    default=1000,
    show_default=True,
    type=click.IntRange(1),
    help="Most scans in one request to /predict whose series are answered.",
)
@click.option(
    "--max-series-mb",
    default=320,
    show_default=True,
    type=click.IntRange(1),
    help="Largest request to /predict, and most that its zips may unpack to.",
)
@click.option("--max-in-flight", default=16, show_default=True, type=click.IntRange(1))
@click.option(
    "--max-in-flight-per-client",
    default=0,
    show_default="half",
    type=click.IntRange(0),
    help="Of those places, most for one client: one API key from one address.",
)
@click.option(
    "--log-format",
    default=TEXT,
    show_default=True,
    type=click.Choice(FORMATS),
    help="Lines of the log: text for people, or a JSON object each.",
)
@click.option("--request-timeout-s", default=60.0, show_default=True, type=click.FloatRange(0.1))
def main(
    model_uri: str,
    host: str,
    port: int,
    workers: int,
    api_key_file: Path | None,
    no_auth: bool,
    allow_origin: tuple[str, ...],
    allowed_hosts: str,
    max_body_mb: int,
    max_rows: int,
    max_slices: int,
    max_series_mb: int,
    max_in_flight: int,
    max_in_flight_per_client: int,
    log_format: str,
    request_timeout_s: float,
) -> None:
    """Serve a model over HTTP: MLflow's scoring API, /predict for files, and a page to try it."""
    # Until uvicorn takes over, also as process 1 of a container, where SIGTERM has no default.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    set_up_logging(log_format)
    keep_blas_to_one_thread()
    keys = checked_keys(api_key_file, host, no_auth)
    limits = RequestLimits(
        max_body_bytes=max_body_mb * MEBIBYTE,
        max_rows=max_rows,
        max_slices=max_slices,
        max_series_bytes=max_series_mb * MEBIBYTE,
        max_in_flight=max_in_flight,
        max_in_flight_per_client=max_in_flight_per_client,
        request_timeout_s=request_timeout_s,
    )
    names = tuple(name.strip() for name in allowed_hosts.split(",") if name.strip())
    settings = ServerSettings(limits, keys, allow_origin, host, names, log_format)
    try:
        if workers == 1:
            serve_alone(model_uri, host, port, settings)
        else:
            serve_with_workers(model_uri, host, port, settings, workers)
    except (ModelNotFoundError, CannotStartError) as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
