"""Scans that the trial model holds until a test lets them go, so that no test sleeps."""

from __future__ import annotations

import time
from pathlib import Path

PATIENCE_S = 60


class Gate:
    """A scan whose scoring begins and ends when the test wants it."""

    def __init__(self, folder: Path, name: str = "gate") -> None:
        """Make a closed gate; its files are in `folder`."""
        self._file = folder / name

    @property
    def scan(self) -> bytes:
        """Return the scan; the model answers it when the gate is open."""
        return f"until {self._file}".encode()

    def begun(self) -> int:
        """Return how many of these scans the model has begun to score."""
        return len(list(self._file.parent.glob(f"{self._file.name}-begun-*")))

    def wait_until_begun(self, count: int) -> None:
        """Return when the model has begun to score `count` of them."""
        deadline = time.monotonic() + PATIENCE_S
        while self.begun() < count:
            assert time.monotonic() < deadline, f"{self.begun()} of {count} scans were begun"
            time.sleep(0.02)

    def open(self) -> None:
        """Let the model answer them, from now on at once."""
        self._file.touch()
