"""`python -m serve`: serve a model over HTTP, with a page to try a scan."""

from __future__ import annotations

import functools
import logging
import os
import shutil
import signal
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from serve.access import KEYS_VARIABLE, is_loopback, read_keys

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from serve.app import ServerSettings
    from serve.model_files import ModelFiles

logger = logging.getLogger("serve")
MEBIBYTE = 1024 * 1024
SHORT_KEY = 16


def fetch_model(model_uri: str) -> ModelFiles:
    """Return the model's files; see `serve.model_files.fetch`."""
    from serve.model_files import fetch

    return fetch(model_uri)


def load_app(files: ModelFiles, settings: ServerSettings) -> ASGIApp:
    """Return the application around the model in `files`; each worker process calls this once."""
    set_up_logging()
    import mlflow.pyfunc

    from serve.app import build_app

    return build_app(mlflow.pyfunc.load_model(str(files.folder)), files, settings)


def set_up_logging() -> None:
    """Send the log to standard error, one line a record."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    logging.getLogger("mlflow").setLevel(logging.ERROR)


def run_server(
    host: str, port: int, workers: int, files: ModelFiles, settings: ServerSettings
) -> None:
    """Answer requests until SIGTERM or SIGINT; then finish those that run, and return.

    Raises:
        OSError: the address is taken or not this machine's.
    """
    import uvicorn
    from uvicorn.supervisors import Multiprocess

    from serve.http1 import TimedHeadersProtocol

    config = uvicorn.Config(
        functools.partial(load_app, files, settings),
        factory=True,
        host=host,
        port=port,
        workers=workers,
        http=TimedHeadersProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(settings.limits.request_timeout_s) + 1,
        # A worker loads the model before it answers uvicorn's health check.
        timeout_worker_healthcheck=60,
    )
    if workers == 1:
        config.load()
        uvicorn.Server(config).run()
        return
    with_metrics_folder(lambda: Multiprocess(config, sockets=[config.bind_socket()]).run())


def with_metrics_folder(run: Any) -> None:
    """Call `run` with a folder in which worker processes keep their counts, then delete it."""
    folder = tempfile.mkdtemp(prefix="chest-ct-metrics-")
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
    try:
        run()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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
@click.option("--max-body-mb", default=32, show_default=True, type=click.IntRange(1))
@click.option("--max-rows", default=256, show_default=True, type=click.IntRange(1))
@click.option("--max-in-flight", default=16, show_default=True, type=click.IntRange(1))
@click.option("--request-timeout-s", default=60.0, show_default=True, type=click.FloatRange(0.1))
def main(
    model_uri: str,
    host: str,
    port: int,
    workers: int,
    api_key_file: Path | None,
    no_auth: bool,
    allow_origin: tuple[str, ...],
    max_body_mb: int,
    max_rows: int,
    max_in_flight: int,
    request_timeout_s: float,
) -> None:
    """Serve a model over HTTP: MLflow's scoring API, /predict for files, and a page to try it."""
    # Until uvicorn takes over, also as process 1 of a container, where SIGTERM has no default.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    set_up_logging()
    keys = checked_keys(api_key_file, host, no_auth)
    from serve.limits import Limits

    limits = Limits(
        max_body_bytes=max_body_mb * MEBIBYTE,
        max_rows=max_rows,
        max_in_flight=max_in_flight,
        request_timeout_s=request_timeout_s,
    )
    start(model_uri, host, port, workers, limits, keys, allow_origin)


def start(
    model_uri: str,
    host: str,
    port: int,
    workers: int,
    limits: Any,
    keys: tuple[str, ...],
    allow_origin: tuple[str, ...],
) -> None:
    """Fetch the model and serve it; one sentence and exit code 2 where that cannot be."""
    from serve.app import ServerSettings
    from serve.model_files import ModelNotFoundError

    settings = ServerSettings(limits, keys, allow_origin)
    try:
        if workers == 1:
            files = fetch_model(model_uri)
        else:
            # Fetched once for all workers, in a process that gives its memory back.
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                files = pool.submit(fetch_model, model_uri).result()
        run_server(host, port, workers, files, settings)
    except ModelNotFoundError as error:
        raise click.UsageError(str(error)) from error


if __name__ == "__main__":
    main()
