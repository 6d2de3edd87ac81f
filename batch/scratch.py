"""Scratch folders of a job, which the next job removes where a job was killed.

A process that is killed cannot clean up after itself. So each scratch folder is locked by the
process that uses it, and every job removes those whose lock nobody holds.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PREFIX = "batch-scratch-"
# Earlier releases locked none of theirs, so only age tells that nobody uses one.
UNLOCKED = re.compile(r"batch-(inventory|model|spark)-\w+")
UNLOCKED_MAX_AGE_S = 7 * 24 * 3600


@contextlib.contextmanager
def scratch_folder(purpose: str) -> Iterator[Path]:
    """Have an empty folder in the temporary folder until the block ends.

    Args:
        purpose: a word of its name.
    """
    remove_stale_scratch()
    folder, lock = _locked_folder(purpose)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def remove_stale_scratch() -> int:
    """Remove scratch folders whose process has ended; return how many."""
    removed = 0
    for folder in Path(tempfile.gettempdir()).glob("batch-*"):
        ours = folder.name.startswith(PREFIX)
        if folder.is_symlink() or not (ours or UNLOCKED.fullmatch(folder.name)):
            continue
        with contextlib.suppress(OSError):  # in use, somebody else's, or gone meanwhile
            old = time.time() - folder.stat().st_mtime > UNLOCKED_MAX_AGE_S
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if ours or old:
                    shutil.rmtree(folder, ignore_errors=True)
                    removed += not folder.exists()
            finally:
                os.close(lock)
    return removed


def _locked_folder(purpose: str) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{purpose}-"))
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)  # closed in processes it starts
        with contextlib.suppress(OSError):  # some network file systems have no locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            return folder, lock
        os.close(lock)  # another job met it before it was locked
