"""The model in a process of its own, which may die of a scan without taking the job along.

A decoder that runs out of memory or crashes ends its process, and no exception handler sees it. So
the model runs in a child process: the job sends bytes and gets rows over a socket, notices when the
child dies, and starts another. See docs/adr/0014-the-model-in-a-child-process.md.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa

from batch.faults import CannotRunError
from batch.loaded_pyfunc import LoadedPyfunc, Row
from batch.memory import share_memory_between_threads
from batch.pyfunc import PinnedModel

CALLS = 2  # of the model at once: one decodes its first scans while the other's are in the network
CALL_LIMIT_S = 300.0  # a call that takes this long, and so long for each of its scans, never ends
SCAN_LIMIT_S = 30.0
END_LIMIT_S = 10.0
# Of 1,000: where memory runs out, the kernel is to end this process rather than the job.
OOM_SCORE_ADJUSTMENT = 300
PROGRAM = "from batch.model_process import serve; serve()"


class ModelDiedError(Exception):
    """The process ended before it had answered; the message says how."""


class ModelProcess:
    """A model in a child process. Started when made, and again after it died; thread-safe."""

    def __init__(self, pinned: PinnedModel) -> None:
        """Start the process, load the model in it and score a probe.

        Raises:
            CannotRunError: the model cannot be loaded, or gives no rows for a probe.
        """
        self.pinned = pinned
        self._starting = threading.Lock()
        self._child = _Child(pinned.folder)
        self.columns = self._child.columns

    def __enter__(self) -> ModelProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def score(self, images: list[bytes]) -> list[Row]:
        """Return one row per image, in order.

        Raises:
            ModelDiedError: the process died, or did not answer for minutes and was ended.
            CannotRunError: it had died before, and cannot be started again.
        """
        return self._living_child().call("score", images, CALL_LIMIT_S + SCAN_LIMIT_S * len(images))

    def series_rows(self, slices: pa.Table) -> list[Row]:
        """Return one row per series, in order of first appearance.

        Args:
            slices: the model's own rows, with the column `series`.

        Raises:
            ModelDiedError, CannotRunError: as `score`.
        """
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, slices.schema) as writer:
            writer.write_table(slices)
        return self._living_child().call("series_rows", [sink.getvalue()], CALL_LIMIT_S)

    def _living_child(self) -> _Child:
        with self._starting:
            if self._child.died:
                self._child = _Child(self.pinned.folder)
            return self._child

    def close(self) -> None:
        """End the process."""
        self._child.close()


class _Child:
    """One child process, until it dies."""

    def __init__(self, folder: Path) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, str(theirs.fileno()), str(folder)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=2,  # the job's standard output carries only its summary
                env=os.environ | {"PYTHONPATH": _python_path()},
            )
        self._connection = Connection(ours.detach())
        self._numbers = itertools.count()
        self._waiting: dict[int, Future[list[Row]]] = {}
        self._lock = threading.Lock()  # of what is written to the socket, and of `_waiting`
        self.died: str | None = None
        try:
            loaded = self._connection.recv()
        except (EOFError, OSError) as error:
            raise CannotRunError(
                f"The model cannot be loaded: its process {self._how_it_ended()}. It may need more "
                "memory than there is, or choose another --model-uri."
            ) from error
        if isinstance(loaded, CannotRunError):
            self.close()
            raise loaded
        self.columns: dict[str, str] = loaded
        threading.Thread(target=self._receive, name="model", daemon=True).start()

    def call(self, method: str, payloads: Sequence[Any], limit_s: float) -> list[Row]:
        """Have the child run a method of its model on buffers, and return its rows."""
        answer: Future[list[Row]] = Future()
        with self._lock:
            if self.died:
                raise ModelDiedError(self.died)
            number = next(self._numbers)
            self._waiting[number] = answer
            with contextlib.suppress(OSError):  # it died; `_receive` notices
                self._connection.send((number, method, len(payloads)))
                for payload in payloads:  # as they are: pickled they would be copied
                    self._connection.send_bytes(payload)
        try:
            return answer.result(limit_s)
        except TimeoutError:
            self._process.kill()  # so every other call ends as well
            with self._lock:
                self.died = f"did not answer within {limit_s:.0f} s"
            raise ModelDiedError(self.died) from None

    def close(self) -> None:
        self.died = self.died or "was ended"
        self._process.kill()  # it has nothing to save
        self._process.wait()

    def _receive(self) -> None:
        while True:
            try:
                number, rows = self._connection.recv()
            except (EOFError, OSError, pickle.UnpicklingError):
                break
            with self._lock:
                answer = self._waiting.pop(number)
            answer.set_result(rows)
        how = self._how_it_ended()
        with self._lock:
            self.died = self.died or how
            waiting, self._waiting = self._waiting, {}
            self._connection.close()
        for answer in waiting.values():
            answer.set_exception(ModelDiedError(self.died))

    def _how_it_ended(self) -> str:
        try:
            code = self._process.wait(END_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        if code >= 0:
            return f"ended with exit code {code}"
        name = signal.Signals(-code).name
        return f"was killed ({name}{', often for lack of memory' if name == 'SIGKILL' else ''})"


def _python_path() -> str:
    here = str(Path.cwd())
    return os.pathsep.join(path or here for path in sys.path)


def serve() -> None:
    """Load a model and answer calls until the job has ended: the child's main function.

    Arguments of the process: the descriptor of the socket, and the model's folder.
    """
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # Ctrl-C reaches the whole group; the job decides
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE_ADJUSTMENT))
    share_memory_between_threads()
    connection, sending = Connection(int(sys.argv[1])), threading.Lock()
    try:
        model = LoadedPyfunc(Path(sys.argv[2]))
        loaded: object = model.columns
    except CannotRunError as error:
        loaded = error
    try:
        connection.send(loaded)
    except OSError:
        return  # the job has ended meanwhile
    if isinstance(loaded, CannotRunError):
        return

    def answer(number: int, method: str, payloads: list[bytes]) -> None:
        try:
            rows = _rows(model, method, payloads)
            with sending:
                connection.send((number, rows))
        except BaseException:  # the model's code wants to exit, or the job has ended
            os._exit(1)

    with ThreadPoolExecutor(CALLS, thread_name_prefix="score") as pool:
        while True:
            try:
                number, method, count = connection.recv()
                payloads = [connection.recv_bytes() for _ in range(count)]
            except (EOFError, OSError):
                os._exit(0)  # the job has ended, so nobody waits for what is being scored
            pool.submit(answer, number, method, payloads)


def _rows(model: LoadedPyfunc, method: str, payloads: list[bytes]) -> list[Row]:
    """Run one call in the child."""
    if method == "score":
        return model.score(payloads)
    import pandas as pd

    # Objects, as the model makes its rows: what is missing is None, never NaN.
    columns = pa.ipc.open_stream(payloads[0]).read_all().to_pydict()
    return model.series_rows(pd.DataFrame(columns, dtype=object))
