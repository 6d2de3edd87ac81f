"""The server's log: one line a record on standard error, and nothing that a library writes."""

from __future__ import annotations

import logging
import sys

from serve.http.request_facts import raised_at

OURS = "serve"


def is_ours(record: logging.LogRecord) -> bool:
    """Return whether this server wrote a record, rather than a library."""
    return record.name.split(".")[0] == OURS


class OneLine(logging.Formatter):
    """Writes this server's records, and of a library's error only where it happened.

    A library's text may hold what a client sent, a path or an address.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return a record's line: when, in which request if in one, how bad, what."""
        parts = [self.formatTime(record), getattr(record, "request_id", ""), record.levelname]
        if is_ours(record):
            parts.append(record.getMessage())
        else:
            error = record.exc_info[1] if record.exc_info else None
            where = raised_at(error) if error else f"{record.filename}:{record.lineno}"
            parts.append(f"{record.name} reported an error: {where}")
        return " ".join(part for part in parts if part)


def set_up_logging() -> None:
    """Send the log to standard error, one line a record."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine())
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
