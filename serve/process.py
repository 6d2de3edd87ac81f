"""The server's processes: one, or several workers on one port."""

from __future__ import annotations

import functools
import logging
import os
import shutil
import socket
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import uvicorn
from starlette.types import ASGIApp
from uvicorn.supervisors import Multiprocess

from serve.heap import bound_heap
from serve.http.http1 import TimedHeadersProtocol
from serve.log import quiet_libraries, set_up_logging
from serve.model_files import ModelFiles, fetch, load
from serve.settings import ServerSettings

logger = logging.getLogger("serve")


def keep_blas_to_one_thread() -> None:
    """Have numpy's matrix products computed by the thread that asks. Call before numpy is loaded.

    A second thread gains nothing for products this small, and OpenBLAS's spins for 0.1 s after each
    one, on a core that the network computes on: a tenth of the time that a series takes.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def load_app(files: ModelFiles, settings: ServerSettings) -> ASGIApp:
    """Return the application around the model in `files`; each worker process calls this once."""
    set_up_logging(settings.log_format)
    bound_heap()  # before there are threads
    model = load(files)
    quiet_libraries()  # MLflow sets up logging of its own while it loads
    # Imported where the model is: pandas and MLflow cost 150 MB, which a parent of workers saves.
    from serve.app import build_app

    return build_app(model, files, settings)


def configuration(
    files: ModelFiles, host: str, port: int, settings: ServerSettings, workers: int
) -> uvicorn.Config:
    """Return uvicorn's configuration of the server."""
    return uvicorn.Config(
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
        # No request runs longer, so each one that runs at SIGTERM finishes.
        timeout_graceful_shutdown=int(settings.limits.request_timeout_s) + 1,
        # A worker loads the model before it answers uvicorn's health check.
        timeout_worker_healthcheck=60,
    )


class CannotStartError(Exception):
    """What this machine does not let the server do, in one sentence."""


def bind(host: str, port: int) -> socket.socket:
    """Return a socket bound to an address, on which nothing listens yet.

    Raises:
        CannotStartError: the address is taken, or is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With TCP named, asyncio sends small answers at once (TCP_NODELAY); else each waits 40 ms for
    # the client's delayed acknowledgement.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host.strip("[]"), port))
    except OSError as error:
        bound.close()
        raise CannotStartError(
            f"The server cannot listen on {url_of(host, port)}: {error.strerror}. "
            "Choose another --host or --port."
        ) from error
    return bound


def counts_folder() -> str:
    """Return a new folder in which workers keep their counts.

    Raises:
        CannotStartError: there is nowhere to write.
    """
    try:
        return tempfile.mkdtemp(prefix="chest-ct-metrics-")
    except OSError as error:
        raise CannotStartError(
            "Several workers need a writable folder for their counts: "
            "set TMPDIR to one, or leave --workers at 1."
        ) from error


def url_of(host: str, port: int) -> str:
    """Return the address to type into a browser; IPv6 addresses stand in brackets (RFC 3986)."""
    bare = host.strip("[]")
    return f"http://[{bare}]:{port}" if ":" in bare else f"http://{bare}:{port}"


class Server(uvicorn.Server):
    """uvicorn's server, which says when it is ready."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen, and log it."""
        await super().startup(sockets)
        logger.info("Ready on %s", url_of(self.config.host, self.config.port))


def serve_alone(model_uri: str, host: str, port: int, settings: ServerSettings) -> None:
    """Answer requests in this process until SIGTERM or SIGINT, then finish those that run.

    Raises:
        ModelNotFoundError: there is no model to serve.
        CannotStartError: the address cannot be used.
    """
    bound = bind(host, port)  # first, so that a taken port is told at once
    config = configuration(fetch(model_uri), host, port, settings, workers=1)
    config.load()
    Server(config).run(sockets=[bound])


def serve_with_workers(
    model_uri: str, host: str, port: int, settings: ServerSettings, workers: int
) -> None:
    """Answer requests in several processes, which share the port and each hold the model.

    Raises:
        ModelNotFoundError: there is no model to serve.
        CannotStartError: the address cannot be used, or there is nowhere to write.
    """
    bound = bind(host, port)
    bound.set_inheritable(True)
    # One fetch for all workers, in a process that gives its memory back. It tries the model too:
    # a worker that cannot start has no way to say so in one sentence.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        files = pool.submit(fetch_and_try, model_uri).result()
    # Here each worker keeps its counts, and GET /metrics adds them up.
    folder = counts_folder()
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
    try:
        config = configuration(files, host, port, settings, workers)
        Multiprocess(config, sockets=[bound]).run()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def fetch_and_try(model_uri: str) -> ModelFiles:
    """Return the model's files after loading them once."""
    files = fetch(model_uri)
    load(files)
    return files
