"""Zips of scans, read in memory without trusting anything they say about themselves."""

from __future__ import annotations

import re
import stat
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO

from serve.http.errors import RefusalError
from serve.inflate import inflated_at_once

STARTS = (b"PK\x03\x04", b"PK\x05\x06")  # a first member, or the end of an empty zip
DICOM_MARK = slice(128, 132)  # a DICOM file's preamble may hold anything
OFFICE = "[Content_Types].xml"  # ECMA-376, part 2: every office document has it
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # others may want gigabytes to unpack
ENCRYPTED_FLAG, UTF8_FLAG = 0x1, 0x800  # general purpose bits 0 and 11, APPNOTE.TXT 4.4.4
DRIVE = re.compile(r"[A-Za-z]:")
SYSTEM_NAMES = {"__macosx", "thumbs.db", "desktop.ini", "$recycle.bin"}
END, END_BYTES, MAX_COMMENT_BYTES = b"PK\x05\x06", 22, 65_535
LOCATOR, LOCATOR_BYTES, END_64 = b"PK\x06\x07", 20, b"PK\x06\x06"
DIRECTORY_BYTES_PER_MEMBER = 1024  # names and extra fields; 46 bytes are the least
DIRECTORY_BYTES = 64 * 1024


class DamagedZipError(Exception):
    """A zip, or a member of one, that cannot be read; the message says what to do."""


@dataclass(frozen=True)
class Member:
    """A file in a zip; `read` returns its first n bytes, or all with -1."""

    file: str
    size: int
    read: Callable[[int], bytes]


@dataclass(frozen=True)
class Members:
    """What a zip holds: files, and the name and reason of each that is not to be read."""

    scans: list[Member]
    left_out: list[tuple[str, str]]


@dataclass
class Allowance:
    """What all zips of a request may hold together, and what they hold so far.

    Attributes:
        files: members that are files.
        total_bytes: their sizes together.
        file_bytes: of one member; a larger one is left out.
    """

    files: int
    total_bytes: int
    file_bytes: int
    taken_files: int = 0
    taken_bytes: int = 0

    def take(self, entries: list[zipfile.ZipInfo]) -> None:
        """Count the members of one more zip.

        Raises:
            RefusalError: 413 if they are too many or too large.
        """
        self.taken_files += len(entries)
        if self.taken_files > self.files:
            raise RefusalError(
                413,
                "too_many_rows",
                f"Expected at most {self.files} files in zips, received {self.taken_files}: send "
                "fewer at a time, or score them with the batch job.",
            )
        self.taken_bytes += sum(entry.file_size for entry in entries)
        if self.taken_bytes > self.total_bytes:
            raise RefusalError(
                413,
                "body_too_large",
                f"Expected zips that unpack to at most {self.total_bytes / 2**20:g} MiB, received "
                "more: send fewer slices at a time, or score them with the batch job.",
            )


def is_zip(start: bytes) -> bool:
    """Return whether a file is a zip, from its first 132 bytes."""
    return start.startswith(STARTS) and start[DICOM_MARK] != b"DICM"


def open_zip(file: IO[bytes], name: str, allowance: Allowance) -> Members | None:
    """Return the members of a zip, none of them unpacked; None for an office document.

    Args:
        file: the zip, in memory.
        name: what it is called.
        allowance: what is left for it.

    Raises:
        DamagedZipError: it has no directory that can be read.
        RefusalError: 413 if it holds more than it may.
    """
    check_directory(file, allowance.files)
    try:
        opened = zipfile.ZipFile(file)
        entries = [entry for entry in opened.infolist() if not entry.is_dir()]
    except Exception as error:  # zipfile raises nearly every type on damaged bytes
        raise damaged() from error
    if any(entry.filename == OFFICE for entry in entries):
        return None
    allowance.take(entries)
    found = Members([], [])
    for entry in entries:
        shown = f"{name}/{plain_name(entry)}"
        reason = why_left_out(entry, allowance.file_bytes)
        if reason is None:
            found.scans.append(Member(shown, entry.file_size, reader_of(opened, entry)))
        else:
            found.left_out.append((shown, reason))
    return found


def damaged() -> DamagedZipError:
    """Return the error for a zip without a directory."""
    return DamagedZipError(
        "Expected a whole zip, received one that is damaged or cut short; send it again."
    )


def check_directory(file: IO[bytes], files: int) -> None:
    """Check the size of a zip's directory before each of its entries becomes an object.

    Raises:
        DamagedZipError: there is none.
        RefusalError: 413 if it is far larger than that of as many files as are allowed.
    """
    size = directory_bytes(file)
    if size is None:
        raise damaged()
    if size > DIRECTORY_BYTES + files * DIRECTORY_BYTES_PER_MEMBER:
        raise RefusalError(
            413,
            "too_many_rows",
            f"Expected at most {files} files in zips, received a zip of far more: send fewer at a "
            "time, or score them with the batch job.",
        )


def directory_bytes(file: IO[bytes]) -> int | None:
    """Return the size of a zip's directory as its end says it (APPNOTE.TXT 4.3.14, 4.3.16)."""
    size = file.seek(0, 2)
    start = max(0, size - END_BYTES - MAX_COMMENT_BYTES - LOCATOR_BYTES)
    file.seek(start)
    tail = file.read()
    at = tail.rfind(END)
    if at < 0 or len(tail) - at < END_BYTES:
        return None
    (length,) = struct.unpack_from("<L", tail, at + 12)
    locator = tail[max(0, at - LOCATOR_BYTES) : at]
    if locator.startswith(LOCATOR) and len(locator) == LOCATOR_BYTES:
        (end,) = struct.unpack_from("<Q", locator, 8)
        if end + 56 > size:
            return None
        file.seek(end)
        record = file.read(56)
        if record.startswith(END_64):
            (length,) = struct.unpack_from("<Q", record, 40)
    return int(length)


def plain_name(entry: zipfile.ZipInfo) -> str:
    """Return a member's name with slashes between folders."""
    text = entry.filename
    if not entry.flag_bits & UTF8_FLAG:
        # Many zippers write UTF-8 without saying so; real code page 437 is hardly ever valid UTF-8.
        try:
            text = text.encode("cp437").decode("utf-8")
        except UnicodeError:
            text = entry.filename
    return text.replace("\\", "/")


def why_left_out(entry: zipfile.ZipInfo, most_bytes: int) -> str | None:
    """Return why a member is not to be read, None if it is."""
    path = PurePosixPath(plain_name(entry))
    leads_out = path.is_absolute() or ".." in path.parts or not path.parts
    if leads_out or DRIVE.fullmatch(path.parts[0]):
        return "a path that leads out of the folder it is unpacked to"
    if any(part.startswith(".") or part.casefold() in SYSTEM_NAMES for part in path.parts):
        return "a hidden file, or one of an operating system"
    if path.name.upper() == "DICOMDIR":
        return "a DICOMDIR, the index of a tree of DICOM files"
    if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
        return "a link or a device, not a file"
    if entry.flag_bits & ENCRYPTED_FLAG:
        return "encrypted; send a zip without a password"
    if entry.compress_type not in METHODS:
        return "packed in a way that is not read here; make the zip with deflate"
    if entry.file_size > most_bytes:
        return f"larger than {most_bytes / 2**20:g} MiB, which no slice is"
    return None


def reader_of(opened: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Callable[[int], bytes]:
    """Return a function that unpacks a member, or its first bytes."""

    def read(size: int) -> bytes:
        try:
            whole = inflated_at_once(opened, entry) if size < 0 else None
            if whole is not None:
                return whole
            with opened.open(entry) as packed:
                # Never -1: zipfile would then unpack all there is, whatever the directory says.
                return packed.read(entry.file_size + 1 if size < 0 else size)
        except Exception as error:  # zipfile raises nearly every type on damaged bytes
            raise DamagedZipError("damaged in the zip; make the zip again") from error

    return read
