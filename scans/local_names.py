"""Local paths for names that come from elsewhere: keys of objects, entries of zips."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from pathlib import PurePosixPath

MAX_NAME_BYTES = 255  # of file systems
SHORTENED_BYTES = 180  # what is kept of a longer name, before what is appended here
MAX_PATH_BYTES = 1024  # Linux takes 4,096 with the folder above, macOS 1,024
KEPT_FOLDERS = 4  # of a path that is too long, from the top: those that name split and class


def local_paths(names: Sequence[str]) -> list[PurePosixPath]:
    """Give each name a relative path of its own, below one folder.

    A name that is a plain path keeps it. Others get a path made from what is usable of theirs and
    a digest of the name: empty, `.` and `..` parts, a last slash, nulls, names or paths that are
    too long, and files whose name another file's folder has, or another file but for its case.

    Args:
        names: distinct names, with slashes between folders.

    Returns:
        One path per name, in order; no two are equal, even without case, and no file's path is
        another file's folder.
    """
    cleaned = [_cleaned(name) for name in names]
    folders = {_key(parent) for path in cleaned for parent in path.parents}
    taken: set[str] = set()
    paths: list[PurePosixPath | None] = []
    for name, path in zip(names, cleaned, strict=True):
        key = _key(path)
        plain = str(path) == name and key not in folders and key not in taken
        if plain:
            taken.add(key)
        paths.append(path if plain else None)
    return [
        path or _with_digest(clean, name)
        for name, clean, path in zip(names, cleaned, paths, strict=True)
    ]


def _cleaned(name: str) -> PurePosixPath:
    """Return what is usable of a name as a path."""
    parts = [_part(part) for part in name.split("/") if part not in ("", ".", "..")]
    if len("/".join(parts).encode()) > MAX_PATH_BYTES:
        parts = [*parts[:KEPT_FOLDERS], parts[-1]]
    return PurePosixPath(*parts or ["unnamed"])


def _part(part: str) -> str:
    """Return a folder's or file's name without nulls and not longer than file systems take."""
    encoded = part.replace("\0", "_").encode("utf-8", "backslashreplace")
    if len(encoded) <= MAX_NAME_BYTES:
        return encoded.decode()
    # Two long names may begin alike.
    return with_note(PurePosixPath(encoded.decode()), f"~{_digest(part)}").name


def _with_digest(path: PurePosixPath, name: str) -> PurePosixPath:
    return with_note(path, f"~{_digest(name)}")


def with_note(path: PurePosixPath, note: str) -> PurePosixPath:
    """Return a path with a note before its suffix, shortened where it would be too long."""
    suffix = path.suffix if len(path.suffix) < 10 else ""
    stem = path.name.removesuffix(suffix)
    if len((stem + note + suffix).encode()) > MAX_NAME_BYTES:
        stem = stem.encode()[:SHORTENED_BYTES].decode("utf-8", "ignore")
    return path.with_name(f"{stem}{note}{suffix}")


def _digest(text: str) -> str:
    """Return 16 hexadecimal digits: among 10^5 names, two share them with a chance of 10^-10."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _key(path: PurePosixPath) -> str:
    """Return what file systems that ignore case and Unicode's forms compare."""
    return unicodedata.normalize("NFC", str(path)).casefold()
