"""Unpack a zip of scans without trusting anything it says about itself."""

from __future__ import annotations

import contextlib
import re
import stat
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from scans.errors import SourceError
from scans.limits import Limits
from scans.local_names import MAX_NAME_BYTES, MAX_PATH_BYTES, local_paths
from scans.progress import progress

CHUNK_BYTES = 1 << 20
ENCRYPTED_FLAG = 0x1  # general purpose bit 0, APPNOTE.TXT 4.4.4
UTF8_FLAG = 0x800  # general purpose bit 11: the name is UTF-8, else code page 437
DRIVE = re.compile(r"[A-Za-z]:")  # of Windows: C:/folder is absolute there


class _DamagedZipError(Exception):
    """The zip, not the disk it is unpacked to, is at fault."""


def extract_zip(archive: Path, target: Path, limits: Limits, name: str) -> None:
    """Unpack a zip into a new folder.

    Args:
        archive: the zip.
        target: where its files go; made here.
        limits: how much it may hold, checked against its directory and against the bytes that
            really come out, since a directory can lie.
        name: what to call the zip in messages.

    Raises:
        SourceError: no zip, damaged, encrypted, too large, or with links or paths out of `target`.
    """
    try:
        opened = _opened(archive)
    except _DamagedZipError as e:
        raise SourceError(
            f"{name} is no whole zip file ({_first_bytes(archive)}; {e}). Expected a zip of class "
            "folders. Download or copy it again, or unpack it and give the folder."
        ) from e
    with opened:
        entries = opened.infolist()
        names = _checked_names(entries, limits, name)
        _unpack(opened, entries, names, target, limits, name)


def _opened(archive: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(archive)
    except (FileNotFoundError, PermissionError):
        raise
    except Exception as e:  # zipfile raises nearly every type on damaged bytes
        raise _DamagedZipError(_first_words(e)) from e


def _checked_names(entries: list[zipfile.ZipInfo], limits: Limits, name: str) -> list[str]:
    """Return each entry's name, having refused every archive that must not be unpacked."""
    limits.check_files(len(entries), name)
    limits.check_total(sum(entry.file_size for entry in entries), name)
    names = []
    for entry in entries:
        path = _safe_name(entry, name)
        shown = _short(path)
        limits.check_file(entry.file_size, f"{shown} in {name}")
        if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise SourceError(
                f"{name} holds {shown}, which is a link or a device. Expected plain files and "
                "folders. Make the zip again with the files themselves in it."
            )
        if entry.flag_bits & ENCRYPTED_FLAG:
            raise SourceError(
                f"{name} is encrypted ({shown}). Expected a zip without a password. Unpack it "
                "and give the folder."
            )
        names.append(path)
    _refuse_twins([n for n, entry in zip(names, entries, strict=True) if not entry.is_dir()], name)
    return names


def _refuse_twins(files: Sequence[str], name: str) -> None:
    """Refuse a name that stands for two files, or for a file and a folder."""
    twice, count = max(Counter(files).items(), key=lambda item: item[1], default=("", 0))
    if count > 1:
        raise SourceError(
            f"{name} holds {_short(twice)} twice. Expected each name once. Make it again."
        )
    folders = {str(parent) for file in files for parent in PurePosixPath(file).parents}
    both = next((file for file in files if file in folders), None)
    if both is not None:
        raise SourceError(
            f"{name} holds {_short(both)} both as a file and as a folder. Make the zip again."
        )


def _safe_name(entry: zipfile.ZipInfo, name: str) -> str:
    """Return an entry's name with slashes between folders and none at its end."""
    text = entry.filename
    if not entry.flag_bits & UTF8_FLAG:
        # Many zippers write UTF-8 without saying so; real code page 437 is hardly ever valid UTF-8.
        try:
            text = text.encode("cp437").decode("utf-8")
        except UnicodeError:
            text = entry.filename
    path = PurePosixPath(text.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or not path.parts or DRIVE.fullmatch(path.parts[0]):
        raise SourceError(
            f"{name} holds {_short(text)}, a path that leads out of the folder it is unpacked to. "
            "Expected relative paths. Do not use this zip unless you trust its maker."
        )
    return str(path)


def _unpack(
    opened: zipfile.ZipFile,
    entries: Sequence[zipfile.ZipInfo],
    names: Sequence[str],
    target: Path,
    limits: Limits,
    name: str,
) -> None:
    """Unpack the files, each to a path of its own, and make the empty folders."""
    target.mkdir(parents=True)
    files = [i for i, entry in enumerate(entries) if not entry.is_dir()]
    paths = local_paths([names[i] for i in files])
    total_bytes = 0
    pairs = zip(files, paths, strict=True)
    for i, path in progress(pairs, "Unpacking", "file", len(files)):
        allowed = limits.max_total_bytes - total_bytes
        try:
            total_bytes += _unpack_file(opened, entries[i], target / path, limits, allowed, name)
        except _DamagedZipError as e:
            raise SourceError(_damage(name, names[i], e)) from e
    listed = [n for n, entry in zip(names, entries, strict=True) if entry.is_dir()]
    _make_empty_folders(target, listed)


def _damage(name: str, entry: str, error: _DamagedZipError) -> str:
    if isinstance(error.__cause__, NotImplementedError):
        return (
            f"{name} packs {_short(entry)} in a way that cannot be read here ({error}). Expected "
            "deflate. Unpack it and give the folder."
        )
    return (
        f"{name} is damaged: {_short(entry)} cannot be unpacked ({error}). Download or copy it "
        "again."
    )


def _make_empty_folders(target: Path, names: Sequence[str]) -> None:
    """Make folders that the zip lists, for they may be classes without scans."""
    for folder in names:
        path = target / folder
        usable = all(len(part.encode()) <= MAX_NAME_BYTES for part in path.parts)
        if usable and len(folder.encode()) <= MAX_PATH_BYTES and "\0" not in folder:
            with contextlib.suppress(FileExistsError, NotADirectoryError):  # a file has its name
                path.mkdir(parents=True, exist_ok=True)


def _unpack_file(
    opened: zipfile.ZipFile,
    entry: zipfile.ZipInfo,
    target: Path,
    limits: Limits,
    allowed_bytes: int,
    name: str,
) -> int:
    """Unpack one file and return its size, stopping as soon as it is larger than it may be."""
    target.parent.mkdir(parents=True, exist_ok=True)
    size_bytes = 0
    with target.open("xb") as file:
        for chunk in _chunks(opened, entry):
            size_bytes += len(chunk)
            limits.check_file(size_bytes, f"{_short(entry.filename)} in {name}")
            if size_bytes > allowed_bytes:
                limits.check_total(limits.max_total_bytes + 1, name)
            file.write(chunk)
    return size_bytes


def _chunks(opened: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Iterator[bytes]:
    """Yield an entry's bytes; whatever goes wrong here is the zip's fault, not the target's."""
    try:
        packed = opened.open(entry)
    except Exception as e:  # zipfile raises nearly every type on damaged bytes
        raise _DamagedZipError(_first_words(e)) from e
    with packed:
        while True:
            try:
                chunk = packed.read(CHUNK_BYTES)
            except Exception as e:
                raise _DamagedZipError(_first_words(e)) from e
            if not chunk:
                return
            yield chunk


def _first_words(error: Exception) -> str:
    """Return an error's own words, at most a line of them."""
    return " ".join((str(error) or type(error).__name__).split())[:100]


def _short(text: str) -> str:
    """Return a name in quotes for a message, its middle left out where it is very long."""
    shown = text if len(text) <= 120 else f"{text[:60]}…{text[-40:]}"
    return f"'{shown.encode('utf-8', 'backslashreplace').decode()}'"


def _first_bytes(path: Path) -> str:
    """Say in words what a file that is no zip begins like."""
    with path.open("rb") as file:
        head = file.read(512)
    kinds = {
        b"\x1f\x8b": "a gzip file", b"7z\xbc\xaf": "a 7z archive", b"Rar!": "a RAR archive",
        b"\x89PNG": "a PNG image", b"\xff\xd8": "a JPEG image",
    }  # fmt: skip
    if not head:
        return "the file is empty"
    if head.lstrip()[:1] == b"<":
        return "it is a web page"
    if head[:4] == b"PK\x03\x04":
        return "it begins like a zip and is cut short or damaged"
    return next((f"it is {kind}" for magic, kind in kinds.items() if head.startswith(magic)),
                "its first bytes are not a zip's")  # fmt: skip
