"""Unpack a zip of scans without trusting anything it says about itself."""

from __future__ import annotations

import lzma
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from scans.errors import SourceError
from scans.limits import Limits
from scans.progress import progress

CHUNK_BYTES = 1 << 20
ENCRYPTED_FLAG = 0x1  # general purpose bit 0, APPNOTE.TXT 4.4.4
UTF8_FLAG = 0x800  # general purpose bit 11: the name is UTF-8, else code page 437


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
        with zipfile.ZipFile(archive) as opened:
            entries = opened.infolist()
            paths = _checked_paths(entries, limits, name)
            _unpack(opened, entries, paths, target, limits, name)
    except zipfile.BadZipFile as e:
        raise SourceError(
            f"{name} is no whole zip file ({_first_bytes(archive)}; {e}). Expected a zip of class "
            "folders. Download or copy it again, or unpack it and give the folder."
        ) from e


def _checked_paths(
    entries: list[zipfile.ZipInfo], limits: Limits, name: str
) -> list[PurePosixPath]:
    """Return where each entry goes, having refused every archive that must not be unpacked."""
    limits.check_files(len(entries), name)
    limits.check_total(sum(entry.file_size for entry in entries), name)
    paths = []
    for entry in entries:
        path = _safe_path(entry, name)
        limits.check_file(entry.file_size, f"'{path}' in {name}")
        if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise SourceError(
                f"{name} holds '{path}', which is a link or a device. Expected plain files and "
                "folders. Make the zip again with the files themselves in it."
            )
        if entry.flag_bits & ENCRYPTED_FLAG:
            raise SourceError(
                f"{name} is encrypted ('{path}'). Expected a zip without a password. Unpack it "
                "and give the folder."
            )
        paths.append(path)
    files = [path for path, entry in zip(paths, entries, strict=True) if not entry.is_dir()]
    if len(set(files)) < len(files):
        twice = next(path for path in files if files.count(path) > 1)
        raise SourceError(f"{name} holds '{twice}' twice. Expected each name once. Make it again.")
    return paths


def _safe_path(entry: zipfile.ZipInfo, name: str) -> PurePosixPath:
    """Return an entry's path below the target folder."""
    text = entry.filename
    if not entry.flag_bits & UTF8_FLAG:
        # Many zippers write UTF-8 without saying so; real code page 437 is hardly ever valid UTF-8.
        try:
            text = text.encode("cp437").decode("utf-8")
        except UnicodeError:
            text = entry.filename
    path = PurePosixPath(text.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or not path.parts or ":" in path.parts[0]:
        raise SourceError(
            f"{name} holds '{text}', a path that leads out of the folder it is unpacked to. "
            "Expected relative paths. Do not use this zip unless you trust its maker."
        )
    return path


def _unpack(
    opened: zipfile.ZipFile,
    entries: list[zipfile.ZipInfo],
    paths: list[PurePosixPath],
    target: Path,
    limits: Limits,
    name: str,
) -> None:
    target.mkdir(parents=True)
    total_bytes = 0
    pairs = zip(entries, paths, strict=True)
    for entry, path in progress(pairs, "Unpacking", "file", len(paths)):
        try:
            if entry.is_dir():
                (target / path).mkdir(parents=True, exist_ok=True)
            else:
                allowed = limits.max_total_bytes - total_bytes
                total_bytes += _unpack_file(opened, entry, target / path, limits, allowed, name)
        except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError) as e:
            raise SourceError(
                f"{name} is damaged: '{path}' cannot be unpacked ({e}). Download or copy it again."
            ) from e
        except NotImplementedError as e:
            raise SourceError(
                f"{name} packs '{path}' in a way that cannot be read here ({e}). Expected deflate. "
                "Unpack it and give the folder."
            ) from e
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as e:
            raise SourceError(
                f"{name} holds '{path}' both as a file and as a folder. Make the zip again."
            ) from e


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
    with opened.open(entry) as packed, target.open("xb") as file:
        while chunk := packed.read(CHUNK_BYTES):
            size_bytes += len(chunk)
            limits.check_file(size_bytes, f"'{entry.filename}' in {name}")
            if size_bytes > allowed_bytes:
                limits.check_total(limits.max_total_bytes + 1, name)
            file.write(chunk)
    return size_bytes


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
