"""What the worker processes of one test session share, made by whichever needs it first.

`pytest` runs tests in two worker processes (pytest-xdist). Folders that cost seconds to make and
servers that cost seconds to start exist once per session, behind a lock on a file; the process
that started pytest stops the servers and removes the folder at the end.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock


@dataclass(frozen=True)
class Shared:
    """A folder that all processes of a test session see."""

    folder: Path

    def once(self, name: str, make: Callable[[Path], object]) -> Path:
        """Return the folder `name`, filled by the first caller; the others wait for it.

        Args:
            name: of the folder, the same for everybody who means the same contents.
            make: fills the empty folder that it is given. What it raises goes to its caller, and
                the next one tries again.
        """
        folder, done = self.folder / name, self.folder / f"{name}.done"
        with FileLock(self.folder / f"{name}.lock"):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
                done.touch()
        return folder

    def keep_running(self, process: subprocess.Popen[bytes]) -> None:
        """Leave a process, the leader of its group, to `close` at the end of the session."""
        (self.folder / f"{process.pid}.pid").touch()
        process.returncode = 0  # or Python warns, when it forgets the process, that it still runs

    def close(self) -> None:
        """Kill every process that was left running, and remove the folder."""
        for file in self.folder.glob("*.pid"):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(int(file.stem), signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)


def new_shared() -> Shared:
    """Make the folder of a session."""
    return Shared(Path(tempfile.mkdtemp(prefix="chest-ct-tests-")))
