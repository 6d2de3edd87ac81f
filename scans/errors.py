"""The one error of this package."""

from __future__ import annotations

from pathlib import Path


class SourceError(ValueError):
    """A source of scans that cannot be used; the message says what to do about it."""


def changed(path: Path) -> SourceError:
    """Return the error for a file that is no longer what it was when it was first looked at."""
    return SourceError(
        f"{path} changed while the scans were read. Expected files that stay as they are. Wait "
        "until nothing writes to the source any more and run again."
    )
