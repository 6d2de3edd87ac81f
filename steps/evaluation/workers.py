"""Work that waits for no scan goes to processes of its own, beside the scoring of scans."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from typing import Any, ParamSpec, TypeVar

from threadpoolctl import threadpool_limits

WORTH_A_PROCESS = 500  # scans times shuffles; below, a process takes longer to start than to work

P = ParamSpec("P")
R = TypeVar("R")


class InPlace(Executor):
    """Does the work at once, in this process."""

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Do the work and return its result as a future that is done."""
        done: Future[R] = Future()
        done.set_result(fn(*args, **kwargs))
        return done


@contextlib.contextmanager
def workers(scans_and_shuffles: int) -> Iterator[Executor]:
    """Give an executor: a process per core, or this process for little work.

    The processes are started anew instead of forked: a fork would copy this process's locks
    without the threads that hold them.

    Args:
        scans_and_shuffles: how much there is to do.
    """
    if scans_and_shuffles < WORTH_A_PROCESS:
        yield InPlace()
        return
    pool = ProcessPoolExecutor(
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        multiprocessing.get_context("spawn"),
        initializer=_start,
    )
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


_limits: Any = None  # of a worker's threads; kept, because they end with the object


def _start() -> None:
    """Leave Ctrl-C to the process that started this one, and take one core."""
    global _limits
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _limits = threadpool_limits(1)
