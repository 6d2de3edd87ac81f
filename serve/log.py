"""The server's log, see logs/lines.py."""

from __future__ import annotations

from logs import lines

OURS = "serve"


def set_up_logging(log_format: str = lines.TEXT) -> None:
    """Send the server's log to standard error.

    Args:
        log_format: one of `lines.FORMATS`.
    """
    lines.set_up_logging(OURS, log_format)


def quiet_libraries() -> None:
    """Take away the handlers that libraries gave their own loggers."""
    lines.quiet_libraries(OURS)
