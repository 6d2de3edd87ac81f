"""List what lies in a folder: files, folders, and what cannot be a scan whatever it holds."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from scans.errors import SourceError, changed
from scans.identity import UNKNOWN, Identity
from scans.limits import Limits

# What operating systems leave in folders and zips; never a scan, so not worth a rejection.
SYSTEM_NAMES = {"__macosx", "thumbs.db", "desktop.ini", "$recycle.bin"}


@dataclass(frozen=True, slots=True)
class Seen:
    """A file as it was when it was read: what a later look is compared with."""

    path: Path
    size_bytes: int
    modified_ns: int

    def check(self) -> None:
        """Raise SourceError when the file is no longer what it was."""
        try:
            now = self.path.stat()
        except OSError as e:
            raise changed(self.path) from e
        if (now.st_size, now.st_mtime_ns) != (self.size_bytes, self.modified_ns):
            raise changed(self.path)


@dataclass(frozen=True, slots=True)
class Rejected:
    """A file that is no usable scan.

    Attributes:
        path: of the file, relative to its source's folder.
        reason: why, in a sentence.
        kind: why, in few words that files of one kind share.
        identity: whose it is, where its header can be read.
        seen: the file that was read; None where its content was not looked at.
    """

    path: PurePosixPath
    reason: str
    kind: str
    identity: Identity = UNKNOWN
    seen: Seen | None = None


@dataclass(frozen=True)
class Listing:
    """What lies in a folder.

    Attributes:
        files: that may be scans, relative to the folder.
        folders: relative to the folder.
        rejected: what cannot be read at all.
        passed_over: how many files of the operating system, and hidden ones, were left out.
    """

    files: list[PurePosixPath]
    folders: list[PurePosixPath]
    rejected: list[Rejected]
    passed_over: int


def list_files(folder: Path, limits: Limits) -> Listing:
    """List a folder and its subfolders in a fixed order, without following links to folders.

    Names for which `is_system_name` holds are passed over, and what lies below them.

    Raises:
        SourceError: the folder cannot be read, changes meanwhile, or holds more than the limits
            allow.
    """
    files: list[PurePosixPath] = []
    folders, rejected, total_bytes, passed_over = [], [], 0, 0

    def refuse(error: OSError) -> None:
        raise SourceError(f"Folder {error.filename} cannot be read: {error.strerror}.") from error

    for where, subfolders, names in os.walk(folder, onerror=refuse):
        here = PurePosixPath(Path(where).relative_to(folder).as_posix())
        if any(map(is_system_name, here.parts)):
            passed_over += len(names)
            continue
        subfolders.sort()
        for name in subfolders:
            if is_system_name(name):
                continue
            if (folder / here / name).is_symlink():
                reason = "a link to a folder, which is not followed"
                rejected.append(Rejected(here / name, reason, "a link to a folder"))
            if _is_utf8(here / name):
                folders.append(here / name)
        for name in sorted(names):
            if is_system_name(name):
                passed_over += 1
                continue
            path = here / name
            refusal = _unusable(folder, path)
            if refusal:
                rejected.append(refusal)
                continue
            try:
                size_bytes = (folder / path).stat().st_size
            except FileNotFoundError as e:
                raise changed(folder / path) from e
            limits.check_file(size_bytes, f"File {folder / path}")
            total_bytes += size_bytes
            files.append(path)
            limits.check_files(len(files), f"Folder {folder}")
            limits.check_total(total_bytes, f"Folder {folder}")
    return Listing(files, folders, rejected, passed_over)


def is_system_name(name: str) -> bool:
    """Return whether a file or folder is hidden or one that operating systems leave behind."""
    return name.startswith(".") or name.casefold() in SYSTEM_NAMES


def _is_utf8(path: PurePosixPath) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _unusable(folder: Path, path: PurePosixPath) -> Rejected | None:
    """Return why a directory entry cannot be a scan whatever it holds, or None."""
    if not _is_utf8(path):
        whose = "its" if _is_utf8(path.parent) else "its folder's"
        reason = f"{whose} name is not valid UTF-8; rename it"
        return Rejected(path, reason, "a name that is not UTF-8")
    if not (folder / path).exists():
        reason = "a link to a file that does not exist"
        return Rejected(path, reason, reason)
    if not (folder / path).is_file():
        return Rejected(path, "not a regular file", "not a regular file")
    return None
