"""Which of the listed objects are scored."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from urllib.parse import unquote_to_bytes

from batch.source.listing import Pages, ScanObject

# What operating systems leave in folders and zips, in lower case; the same as in scans/listing.
SYSTEM_NAMES = frozenset({"__macosx", "thumbs.db", "desktop.ini", "$recycle.bin"})
SAME_FOLDER = frozenset({".", ".."})  # allowed in an S3 key, where they mean nothing


@dataclass(frozen=True)
class Selection:
    """What the user wants scored.

    Attributes:
        include: shell patterns of names below the input (`*` also matches `/`); none: every name.
        exclude: patterns of names to leave out, although included.
        limit: only the first so many objects.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    limit: int | None = None

    def takes(self, name: str) -> bool:
        """Return whether the patterns let a name below the input through."""
        included = not self.include or any(fnmatchcase(name, p) for p in self.include)
        return included and not any(fnmatchcase(name, p) for p in self.exclude)


@dataclass(frozen=True)
class SelectedPage:
    """A page of the listing: the objects to score, and how many system files were passed over."""

    objects: list[ScanObject]
    passed_over: int


def select(pages: Pages, prefix: str, selection: Selection) -> Iterator[SelectedPage]:
    """Keep what is to be scored, page by page, and list no further than the limit.

    Args:
        prefix: the input's URI; what follows it in an object's URI is its name.
    """
    left = selection.limit
    for page in pages:
        objects: list[ScanObject] = []
        passed_over = 0
        for scan in page:
            name = relative_name(scan.uri, prefix)
            if is_system_file(name):
                passed_over += 1
            elif selection.takes(name):
                objects.append(scan)
        if left is not None:
            objects = objects[:left]
            left -= len(objects)
        yield SelectedPage(objects, passed_over)
        if left == 0:
            return


def is_system_file(name: str) -> bool:
    """Return whether a name below the input, or a folder in it, is hidden or an operating system's.

    `.DS_Store`, `._x.png`, `__MACOSX/x.png`, `Thumbs.db`.
    """
    return any(
        (part.startswith(".") and part not in SAME_FOLDER) or part.casefold() in SYSTEM_NAMES
        for part in name.split("/")
    )


def relative_name(uri: str, prefix: str) -> str:
    """Return an object's name below the input, as the user sees it."""
    name = uri[len(prefix) :].lstrip("/")
    return os.fsdecode(unquote_to_bytes(name)) if uri.startswith("file://") else name
