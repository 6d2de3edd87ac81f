"""The server's log: one line a record on standard error, and nothing that a library writes."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

from serve.http.request_facts import raised_at

OURS = "serve"
TEXT, JSON = "text", "json"
FORMATS = (TEXT, JSON)


def is_ours(record: logging.LogRecord) -> bool:
    """Return whether this server wrote a record, rather than a library."""
    return record.name.split(".")[0] == OURS


def message_of(record: logging.LogRecord) -> str:
    """Return what a record says; of a library's error only where it happened.

    A library's text may hold what a client sent, a path or an address.
    """
    if is_ours(record):
        return record.getMessage()
    error = record.exc_info[1] if record.exc_info else None
    where = raised_at(error) if error else f"{record.filename}:{record.lineno}"
    return f"{record.name} reported an error: {where}"


class OneLine(logging.Formatter):
    """Writes a record as text for people."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record's line: when, in which request if in one, how bad, what."""
        parts = [self.formatTime(record), getattr(record, "request_id", ""), record.levelname]
        return " ".join(part for part in (*parts, message_of(record)) if part)


class OneObject(logging.Formatter):
    """Writes a record as JSON for programs: of a request its numbers, else a message."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record's line: `time`, `level`, `request_id`, and `facts` or `message`."""
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields: dict[str, Any] = {"time": when, "level": record.levelname}
        if request_id := getattr(record, "request_id", ""):
            fields["request_id"] = request_id
        facts = getattr(record, "facts", None)
        return json.dumps(fields | (facts or {"message": message_of(record)}))


def set_up_logging(log_format: str = TEXT) -> None:
    """Send the log to standard error, one line a record.

    Args:
        log_format: one of FORMATS.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneObject() if log_format == JSON else OneLine())
    handler.addFilter(lambda record: is_ours(record) or record.levelno >= logging.ERROR)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(OURS).setLevel(logging.INFO)
    logging.captureWarnings(True)
    quiet_libraries()


def quiet_libraries() -> None:
    """Take away the handlers that libraries gave their own loggers, so that ours sees all."""
    for name in list(logging.root.manager.loggerDict):
        logger = logging.getLogger(name)
        if name.split(".")[0] != OURS:
            logger.handlers.clear()
            logger.propagate = True
