"""What decoding may cost: memory at a time in the whole process, and processor time for one scan.

Both are known from a file's header before a decoder runs (docs/adr/0065-what-a-decode-may-cost.md).
"""

from __future__ import annotations

import io
import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import ScanError

BUDGET_BYTES = 320 * 2**20  # a colour picture with transparency of MAX_PIXELS needs 8 bytes a pixel
MAX_CPU_S = 3.0  # of one decode; the largest picture allowed takes about 1 s
READS_PER_LOOK, LARGE_READ = 64, 4096  # a look at the clock takes as long as ten small reads


class Budget:
    """Bytes that decodes under way may need together. First come, first served."""

    def __init__(self, total_bytes: int) -> None:
        self.total_bytes = total_bytes
        self.free_again()

    def free_again(self) -> None:
        """Forget every reservation, in a forked child where their threads do not exist."""
        self._free_bytes = self.total_bytes
        self._changed = threading.Condition()
        self._queue: deque[object] = deque()

    @contextmanager
    def reserve(self, needed_bytes: int) -> Iterator[None]:
        """Wait until so many bytes are free, hold them, and give them back.

        Not to be nested: two threads that each hold what the other waits for would wait for ever.

        Raises:
            ScanError: it is more than the whole budget.
        """
        if needed_bytes > self.total_bytes:
            raise ScanError(
                "too_costly",
                f"Expected a slice that decodes within {self.total_bytes / 1e6:.0f} MB of memory, "
                f"received one that needs {needed_bytes / 1e6:.0f} MB; send it at its original "
                "size, with 8 or 16 bits a pixel.",
            )
        turn = object()
        with self._changed:
            self._queue.append(turn)
            try:
                self._changed.wait_for(
                    lambda: self._queue[0] is turn and self._free_bytes >= needed_bytes
                )
                self._free_bytes -= needed_bytes
            finally:
                self._queue.remove(turn)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._free_bytes += needed_bytes
                self._changed.notify_all()


BUDGET = Budget(BUDGET_BYTES)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=BUDGET.free_again)


class TimedStream(io.BytesIO):
    """Bytes that can be read until this thread has used its processor time.

    A decoder that reads piece by piece is given up in this way at its next read.
    """

    def __init__(self, data: bytes, max_cpu_s: float = MAX_CPU_S) -> None:
        super().__init__(data)
        self._until_s = time.thread_time() + max_cpu_s
        self._reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as `io.BytesIO` does.

        Raises:
            ScanError: the time is used up.
        """
        self._reads += 1
        looks = self._reads % READS_PER_LOOK == 0 or size is None or not 0 <= size < LARGE_READ
        if looks and time.thread_time() > self._until_s:
            raise ScanError(
                "too_costly",
                f"Expected a slice that decodes within {MAX_CPU_S:g} s, received one that takes "
                "longer; export it again as PNG or DICOM.",
            )
        return super().read(size)
