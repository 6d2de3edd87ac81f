"""Keep decoding libraries silent: what they would print may quote a file's metadata.

Pillow logs TIFF tags and pydicom warns with the values it could not read, so a patient's name in
the wrong place would reach a log. Errors are raised as exceptions all the same.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

LIBRARIES = r"(PIL|pydicom)\."  # matched against the name of the module that warns
LOGGERS = (
    "PIL.Image",
    "PIL.PngImagePlugin",
    "PIL.TiffImagePlugin",
    "imagecodecs",
    "pydicom",
    "pydicom.pixels.utils",
)
_decoding = ContextVar("decoding", default=False)


def _is_not_ours(_record: logging.LogRecord) -> bool:
    return not _decoding.get()


@cache
def _loggers() -> tuple[logging.Logger, ...]:
    return tuple(logging.getLogger(name) for name in LOGGERS)


@contextmanager
def quiet_decoders() -> Iterator[None]:
    """Drop what Pillow and pydicom log from this thread, and their warnings.

    The warnings filter is added once and stays, because `warnings.catch_warnings` saves and
    restores a list that all threads share.
    """
    for logger in _loggers():
        logger.addFilter(_is_not_ours)  # adding it twice changes nothing
    if not any(
        action == "ignore" and getattr(module, "pattern", module) == LIBRARIES
        for action, _, _, module, _ in warnings.filters
    ):
        warnings.filterwarnings("ignore", module=LIBRARIES)
    token = _decoding.set(True)
    try:
        yield
    finally:
        _decoding.reset(token)
