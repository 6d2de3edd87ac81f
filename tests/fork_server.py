"""Programs of the project in processes that start at once.

Importing MLflow, pandas and scikit-learn takes seconds of processor time. A server that has
imported them forks a process for each program. Each has arguments, an environment, a working
folder, output and a death of its own, as one that Python starts has.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROJECT = (
    "batch",
    "benchmarks",
    "logs",
    "model",
    "monitor",
    "pacs",
    "scans",
    "serve",
    "steps",
    "tests",
)
# Libraries and parts of the project: no module that is run as a program, and no Keras.
LOADED = (
    "batch.job",
    "boto3",
    "mlflow.pyfunc",
    "mlflow.store.model_registry.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_store",
    "steps.gates.promotion",
    "steps.registry.recovery",
)
START_TIMEOUT_S = 300
RUN_TIMEOUT_S = 600


@dataclass
class Program:
    """A program that was started."""

    pid: int
    connection: socket.socket  # to the process that waits for the program
    code: int | None = None

    def wait(self, timeout_s: float | None = RUN_TIMEOUT_S) -> int | None:
        """Return the exit code, the negative signal of one that was killed; None: it still runs."""
        if self.code is None and select.select([self.connection], [], [], timeout_s)[0]:
            self.code = _number(self.connection)
            self.connection.close()
        return self.code

    def kill(self) -> None:
        """Kill it, and wait for its end."""
        os.kill(self.pid, signal.SIGKILL)
        self.wait()


@dataclass(frozen=True)
class ForkServer:
    """A running server."""

    address: Path  # of its socket

    def start(
        self, command: list[str], *, clean: bool = False, env: Mapping[str, str], cwd: Path | str,
        out: Path, err: Path,
    ) -> Program:  # fmt: skip
        """Start a program.

        Args:
            command: a module's name, or a file's if `clean`, and the arguments.
            clean: nothing of this project can be imported, as with `python -P FILE`.
            env: its whole environment.
            cwd: its working folder.
            out: the file of its standard output.
            err: the file of its standard error.
        """
        request = {
            "command": command, "clean": clean, "env": dict(env), "cwd": str(cwd),
            "out": str(out), "err": str(err),
        }  # fmt: skip
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(START_TIMEOUT_S)  # the server may still be importing
        connection.connect(str(self.address))
        connection.sendall(json.dumps(request).encode() + b"\n")
        return Program(_number(connection), connection)

    def run(
        self, module: str, *arguments: object, env: Mapping[str, str], cwd: Path,
        timeout_s: float = RUN_TIMEOUT_S,
    ) -> subprocess.CompletedProcess[str]:  # fmt: skip
        """Run `python -m module arguments`; return its exit code and what it wrote."""
        return self._run([module, *map(str, arguments)], False, env, cwd, timeout_s)

    def run_clean(
        self, command: list[str], *, env: Mapping[str, str], cwd: str, timeout: float, **_: object
    ) -> subprocess.CompletedProcess[str]:
        """Do what `subprocess.run` does for `[python, "-P", file, *arguments]`."""
        _python, flag, *rest = command
        assert flag == "-P", command
        return self._run(rest, True, env, cwd, timeout)

    def _run(
        self, command: list[str], clean: bool, env: Mapping[str, str], cwd: Path | str,
        timeout_s: float,
    ) -> subprocess.CompletedProcess[str]:  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder, "out"), Path(folder, "err")
            program = self.start(command, clean=clean, env=env, cwd=cwd, out=out, err=err)
            code = program.wait(timeout_s)
            if code is None:
                program.kill()
                raise subprocess.TimeoutExpired(command, timeout_s)
            return subprocess.CompletedProcess(command, code, out.read_text(), err.read_text())


def _number(connection: socket.socket) -> int:
    """Read a line that holds a number, and no further."""
    with connection.makefile("rb", buffering=0) as answers:
        return int(answers.readline())


def start_fork_server(folder: Path) -> tuple[subprocess.Popen[bytes], ForkServer]:
    """Start a server whose socket is in `folder`; it may still be importing when this returns."""
    address = folder / "socket"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.fork_server", str(address)],
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    deadline = time.monotonic() + START_TIMEOUT_S
    while not address.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the fork server did not start:\n{(folder / 'log').read_text()}")
        time.sleep(0.05)
    return process, ForkServer(address)


def serve(address: str) -> None:
    """Listen, load the modules, and fork for every connection."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(64)
        for name in LOADED:
            importlib.import_module(name)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies: nobody waits here
        while True:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                _answer(connection)
            connection.close()


def _answer(connection: socket.socket) -> None:
    """Start the program that is asked for, tell its process id and then its exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with connection, connection.makefile("rw") as messages:
        request = json.loads(messages.readline())
        program = os.fork()
        if program == 0:
            connection.close()
            messages.close()
            _become(**request)
        with contextlib.suppress(BrokenPipeError):  # the test that asked may have ended
            print(program, file=messages, flush=True)
            _, status = os.waitpid(program, 0)
            print(os.waitstatus_to_exitcode(status), file=messages, flush=True)
    os._exit(0)


def _become(
    command: list[str], clean: bool, env: dict[str, str], cwd: str, out: str, err: str
) -> None:
    code = 1
    try:
        os.environ.clear()
        os.environ.update(env)
        os.chdir(cwd)
        for number, name in ((1, out), (2, err)):
            file = os.open(name, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
            os.dup2(file, number)
            os.close(file)
        sys.argv = command
        if clean:
            for name in [name for name in sys.modules if name.partition(".")[0] in PROJECT]:
                del sys.modules[name]
            sys.path[:] = [entry for entry in sys.path if entry and Path(entry) != ROOT]
            runpy.run_path(command[0], run_name="__main__")
        else:
            runpy.run_module(command[0], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as ended:
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1])
