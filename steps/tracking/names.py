"""Names of runs that say what was run: the stage, the data, and what differs from the defaults."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from scans.errors import SourceError
from scans.sources import parse_sources, redacted

PART = " · "
MAX_CHARACTERS = 120
MAX_VALUE_CHARACTERS = 24
# In a name the source stands first, and these say nothing to a reader.
NOT_NAMED = {"source", "sha256", "labels", "class_patterns", "registered_model_name", "register"}


def run_name(stage: str, source: str, changed: Mapping[str, Any]) -> str:
    """Name a run.

    Args:
        stage: `main` or the name of a stage.
        source: of the scans, see `scans.sources.EXPECTED`.
        changed: parameters that differ from their defaults.

    Returns:
        For example `training · phantom · epochs=5`.
    """
    words = [
        f"{name}={str(value).lower() if isinstance(value, bool) else str(value)}"[
            : len(name) + 1 + MAX_VALUE_CHARACTERS
        ]
        for name, value in changed.items()
        if name not in NOT_NAMED
    ]
    name = PART.join(filter(None, [stage, short_source(source), ", ".join(words)]))
    return name if len(name) <= MAX_CHARACTERS else name[: MAX_CHARACTERS - 1] + "…"


def short_source(source: str) -> str:
    """Return the last part of where scans come from, or the names of several sources.

    Args:
        source: see `scans.sources.EXPECTED`; "" where it is not known.
    """
    if not source:
        return ""
    try:
        found = parse_sources(source)
    except SourceError:
        return "scans"
    if all(one.name for one in found):
        return "+".join(str(one.name) for one in found)
    return PurePosixPath(redacted(source).rstrip("/")).name or "scans"
