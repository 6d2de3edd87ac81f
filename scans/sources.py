"""What a source of scans is: told from how it is written."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

from scans.errors import SourceError

Kind = Literal["phantom", "drive", "url", "s3", "zip", "folder"]

DRIVE_HOSTS = ("drive.google.com", "docs.google.com")
DRIVE_ID = re.compile(r"[A-Za-z0-9_-]{25,}")  # ids are 28 to 44 characters long, as far as is known
ONE_FILE: tuple[Kind, ...] = ("drive", "url", "s3", "zip")
EXPECTED = (
    "'phantom', a Google Drive share link or file id, https://…zip, s3://bucket/key.zip, "
    "s3://bucket/prefix/, a local zip or a local folder"
)


def source_kind(source: str) -> Kind:
    """Return what kind of source a text names.

    Raises:
        SourceError: it is none, for example a path that does not exist.
    """
    if source == "phantom":
        return "phantom"
    parts = urlsplit(source)
    if parts.scheme == "s3":
        if not parts.netloc or not parts.path.strip("/"):
            raise SourceError(
                "Expected s3://bucket/key.zip or s3://bucket/prefix/. "
                f"Received: {redacted(source)!r}"
            )
        return "s3"
    if parts.scheme in ("http", "https") and parts.hostname:
        return "drive" if parts.hostname in DRIVE_HOSTS else "url"
    path = Path(source).expanduser()
    if source and path.is_dir():
        return "folder"
    if source and path.is_file():
        return "zip"
    if DRIVE_ID.fullmatch(source):
        return "drive"
    raise SourceError(f"Expected {EXPECTED}. Received: {redacted(source)!r}.{_hint(path)}")


def redacted(source: str) -> str:
    """Return a source without user name, password and query, which may hold secrets.

    A Google Drive link keeps its query: the file's id is all there is.
    """
    parts = urlsplit(source)
    if parts.scheme not in ("http", "https", "s3") or parts.hostname in DRIVE_HOSTS:
        return source
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _hint(path: Path) -> str:
    """Suggest the name that a misspelt path or word was meant to be."""
    parent = path.parent
    try:
        names = {entry.name: str(parent / entry.name) for entry in parent.iterdir()}
    except OSError:
        names = {}
    names["phantom"] = "phantom"
    close = difflib.get_close_matches(path.name, names, n=1)
    return f" Did you mean {names[close[0]]!r}?" if close else " No such file or folder."
