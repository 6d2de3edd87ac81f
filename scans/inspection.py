"""Look into every file of a folder: is it a scan, which one, and what does its header say."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from model.decoding.errors import ScanError
from model.decoding.scan_file import decode
from scans.errors import SourceError
from scans.fingerprints import perceptual_hash, sha256_hex
from scans.limits import Limits
from scans.progress import progress

# What operating systems leave in folders and zips; never a scan, so not worth a rejection.
SYSTEM_NAMES = {"__macosx", "thumbs.db", "desktop.ini", "$recycle.bin"}


@dataclass(frozen=True)
class Inspected:
    """A readable scan file.

    Attributes:
        path: of the file, relative to the source's folder.
        sha256: of its bytes, hexadecimal.
        perceptual: 32 bytes, see `scans.fingerprints.perceptual_hash`.
        width, height: as stored, in pixels.
        mode: Pillow's mode, or DICOM's photometric interpretation.
        format: what the bytes are, whatever the name says: PNG, JPEG, …
    """

    path: PurePosixPath
    sha256: str
    perceptual: bytes
    width: int
    height: int
    mode: str
    format: str


@dataclass(frozen=True)
class Rejected:
    """A file that is no usable scan, and why."""

    path: PurePosixPath
    reason: str


@dataclass(frozen=True)
class Listing:
    """What lies in a folder: files and folders, relative to it, and what cannot be read at all."""

    files: list[PurePosixPath]
    folders: list[PurePosixPath]
    rejected: list[Rejected]


def list_files(folder: Path, limits: Limits) -> Listing:
    """List a folder and its subfolders in a fixed order, without following links to folders.

    Hidden names (`.DS_Store`, `.git`) and those of SYSTEM_NAMES are left out.

    Raises:
        SourceError: the folder cannot be read, or holds more than the limits allow.
    """
    files, folders, rejected, total_bytes = [], [], [], 0

    def refuse(error: OSError) -> None:
        raise SourceError(f"Folder {error.filename} cannot be read: {error.strerror}.") from error

    for where, subfolders, names in os.walk(folder, onerror=refuse):
        subfolders[:] = sorted(name for name in subfolders if not _is_system_name(name))
        here = Path(where)
        for name in subfolders:
            relative = PurePosixPath((here / name).relative_to(folder).as_posix())
            if (here / name).is_symlink():
                rejected.append(Rejected(relative, "a link to a folder, which is not followed"))
            folders.append(relative)
        for name in sorted(name for name in names if not _is_system_name(name)):
            path = here / name
            relative = PurePosixPath(path.relative_to(folder).as_posix())
            reason = _unusable(path)
            if reason:
                rejected.append(Rejected(relative, reason))
                continue
            size_bytes = path.stat().st_size
            limits.check_file(size_bytes, f"File {path}")
            total_bytes += size_bytes
            files.append(relative)
            limits.check_files(len(files), f"Folder {folder}")
            limits.check_total(total_bytes, f"Folder {folder}")
    return Listing(files, folders, rejected)


def _is_system_name(name: str) -> bool:
    return name.startswith(".") or name.casefold() in SYSTEM_NAMES


def _unusable(path: Path) -> str | None:
    """Return why a directory entry cannot be a scan whatever it holds, or None."""
    try:
        path.name.encode()
    except UnicodeEncodeError:
        return "its name is not valid UTF-8; rename it"
    if not path.exists():
        return "a link to a file that does not exist"
    return None if path.is_file() else "not a regular file"


def inspect_files(folder: Path, files: Iterable[PurePosixPath]) -> list[Inspected | Rejected]:
    """Read, decode and fingerprint files, several at a time, with a progress bar.

    Args:
        folder: what `files` are relative to.
        files: the files to look into.

    Returns:
        One entry per file, in order.
    """
    paths = list(files)
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        results = pool.map(lambda path: _inspect(folder, path), paths)
        return list(progress(results, "Reading scans", "file", len(paths)))


def _inspect(folder: Path, path: PurePosixPath) -> Inspected | Rejected:
    try:
        data = (folder / path).read_bytes()
    except OSError as e:
        return Rejected(path, f"cannot be read: {e.strerror}")
    if not data:
        return Rejected(path, "the file is empty")
    try:
        scan = decode(data)
    except ScanError as e:
        return Rejected(path, str(e))
    digest, perceptual = sha256_hex(data), perceptual_hash(scan.grey)
    return Inspected(path, digest, perceptual, scan.width, scan.height, scan.mode, scan.format)
