"""TensorFlow, which runs Keras, without its messages about itself."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator


def import_quietly() -> None:
    """Import TensorFlow for Keras. What it prints of its build and the CPU is left out.

    Its C++ code writes some lines before any log level holds, so the file descriptor is turned
    away while it is imported. Errors are raised as ever.
    """
    if "tensorflow" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _silent_stderr():
        import tensorflow  # noqa: F401


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
