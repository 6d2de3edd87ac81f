"""Progress bars on standard error, where they cannot mix with a command's results."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
INTERVAL_S = 1.0  # log files keep every redrawing of a bar


def progress(items: Iterable[T], doing: str, unit: str, total: int | None = None) -> Iterable[T]:
    """Yield items under a progress bar."""
    bar: Iterable[T] = tqdm(
        items, desc=doing, unit=unit, total=total, file=sys.stderr, mininterval=INTERVAL_S
    )
    return bar


def byte_progress(doing: str, *, shown: bool = True) -> tqdm:
    """Return a progress bar that counts bytes."""
    return tqdm(
        desc=doing, unit="B", unit_scale=True, file=sys.stderr, mininterval=INTERVAL_S,
        disable=not shown,
    )  # fmt: skip
