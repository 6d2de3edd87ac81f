"""A program's log: one line a record on standard error, and nothing that a library writes."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

TEXT, JSON = "text", "json"
FORMATS = (TEXT, JSON)


def raised_at(error: BaseException) -> str:
    """Return an exception's type and the line that raised it, without its text.

    The text may hold what was sent, and a log must not.
    """
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"


def is_ours(record: logging.LogRecord, ours: str) -> bool:
    """Return whether the program wrote a record, rather than a library.

    Args:
        ours: the program's package.
    """
    return record.name.split(".")[0] == ours


def message_of(record: logging.LogRecord, ours: str) -> str:
    """Return what a record says; of a library's error only where it happened.

    A library's text may hold what a client sent, a path or an address.
    """
    if is_ours(record, ours):
        return record.getMessage()
    error = record.exc_info[1] if record.exc_info else None
    where = raised_at(error) if error else f"{record.filename}:{record.lineno}"
    return f"{record.name} reported an error: {where}"


class OneLine(logging.Formatter):
    """Writes a record as text for people."""

    def __init__(self, ours: str) -> None:
        """Take the program's package."""
        super().__init__()
        self._ours = ours

    def format(self, record: logging.LogRecord) -> str:
        """Return a record's line: when, in which request if in one, how bad, what."""
        parts = [self.formatTime(record), getattr(record, "request_id", ""), record.levelname]
        return " ".join(part for part in (*parts, message_of(record, self._ours)) if part)


class OneObject(logging.Formatter):
    """Writes a record as JSON for programs: of a request its numbers, else a message."""

    def __init__(self, ours: str) -> None:
        """Take the program's package."""
        super().__init__()
        self._ours = ours

    def format(self, record: logging.LogRecord) -> str:
        """Return a record's line: `time`, `level`, `request_id`, and `facts` or `message`."""
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields: dict[str, Any] = {"time": when, "level": record.levelname}
        if request_id := getattr(record, "request_id", ""):
            fields["request_id"] = request_id
        facts = getattr(record, "facts", None)
        return json.dumps(fields | (facts or {"message": message_of(record, self._ours)}))


def set_up_logging(ours: str, log_format: str = TEXT) -> None:
    """Send the log to standard error, one line a record.

    Args:
        ours: the program's package, which logs from INFO on; of libraries only errors are written.
        log_format: one of FORMATS.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneObject(ours) if log_format == JSON else OneLine(ours))
    handler.addFilter(lambda record: is_ours(record, ours) or record.levelno >= logging.ERROR)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(ours).setLevel(logging.INFO)
    logging.captureWarnings(True)
    quiet_libraries(ours)


def quiet_libraries(ours: str) -> None:
    """Take away the handlers that libraries gave their own loggers, so that ours sees all."""
    for name in list(logging.root.manager.loggerDict):
        logger = logging.getLogger(name)
        if name.split(".")[0] != ours:
            logger.handlers.clear()
            logger.propagate = True
