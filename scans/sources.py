"""What a source of scans is: told from how it is written."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

from scans.errors import SourceError

Kind = Literal["phantom", "drive", "url", "s3", "zip", "folder"]

DRIVE_HOSTS = ("drive.google.com", "docs.google.com")
DRIVE_ID = re.compile(r"[A-Za-z0-9_-]{25,}")  # ids are 28 to 44 characters long, as far as is known
ONE_FILE: tuple[Kind, ...] = ("drive", "url", "s3", "zip")
NAMED = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*=(.*)", re.DOTALL)
EXPECTED = (
    "'phantom', a Google Drive share link or file id, https://…zip, s3://bucket/key.zip, "
    "s3://bucket/prefix/, a local zip or a local folder"
)


@dataclass(frozen=True)
class NamedSource:
    """One of the sources of a data set: its name, None for the only one, and where it is."""

    name: str | None
    where: str


def parse_sources(text: str) -> list[NamedSource]:
    """Read one source, or several as `name=where;name=where`.

    A path that exists is one source, whatever characters its name has.

    Raises:
        SourceError: a part of several has no name, or two share a name or a place.
    """
    try:
        exists = bool(text) and Path(text).expanduser().exists()
    except (OSError, ValueError):  # longer than a path may be, or with a null
        exists = False
    if exists or not NAMED.fullmatch(text):
        return [NamedSource(None, text)]
    found = []
    for part in filter(None, (part.strip() for part in text.split(";"))):
        match = NAMED.fullmatch(part)
        if match is None or not match[2].strip():
            raise SourceError(
                "Expected several sources as name=where;name=where, with names of letters, digits, "
                f"'.', '_' and '-'. Received: {redacted(part)!r}. Give it a name."
            )
        found.append(NamedSource(match[1], match[2].strip()))
    for values, what in (
        ([source.name for source in found], "name"),
        ([_identity(source.where) for source in found], "place"),
    ):
        twice = [redacted(str(value)) for value, count in Counter(values).items() if count > 1]
        if twice:
            raise SourceError(
                f"Expected each source once. Received two with the {what} {twice[0]!r}. Give each "
                "source a name of its own and leave the repeated one out."
            )
    return found


def _identity(where: str) -> str:
    """Return what is equal for two spellings of one local path."""
    path = Path(where).expanduser()
    try:
        return str(path.resolve()) if path.exists() else where
    except OSError:
        return where


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
    named = NAMED.fullmatch(source)
    if named and "://" in named[2]:
        sources = [part.partition("=") for part in source.split(";") if part.strip()]
        return ";".join(f"{name}{equals}{redacted(where)}" for name, equals, where in sources)
    source = source.encode("utf-8", "backslashreplace").decode()  # a path need not be UTF-8
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
