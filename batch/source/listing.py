"""The objects to score, streamed from an S3 prefix or a local folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from batch.faults import CannotRunError, is_s3_fault, s3_sentence
from batch.locations import Location, list_pages

PAGE = 1000  # objects per page, as in S3's own listing


@dataclass(frozen=True, slots=True)
class ScanObject:
    """One object as it was listed: `last_modified` is UTC; `etag` has no quotes."""

    uri: str
    size_bytes: int
    etag: str
    last_modified: datetime


Pages = Iterator[list[ScanObject]]


def strip_quotes(etag: str) -> str:
    """Return an ETag without its quotation marks."""
    return etag.strip('"')


def list_objects(location: Location, client: Any) -> Pages:
    """Yield the location's objects page by page; only one page is held.

    The empty objects whose key ends in `/`, which S3's console makes to show a folder, are left
    out: they are not files.
    """
    return _list_prefix(location, client) if location.bucket else _list_folder(Path(location.path))


def _list_prefix(location: Location, client: Any) -> Pages:
    try:
        for page in list_pages(client, str(location.bucket), location.path):
            yield [
                ScanObject(
                    f"s3://{location.bucket}/{entry['Key']}",
                    entry["Size"],
                    strip_quotes(entry["ETag"]),
                    entry["LastModified"].astimezone(UTC),
                )
                for entry in page
                if entry["Size"] or not entry["Key"].endswith("/")
            ]
    except Exception as error:
        if is_s3_fault(error):
            raise CannotRunError(s3_sentence(error, f"list {location.uri}")) from error
        raise


def _list_folder(folder: Path) -> Pages:
    if not folder.is_dir():
        what = "is a file; expected a folder" if folder.exists() else "does not exist"
        raise CannotRunError(f"The input folder {folder} {what}. Check its path.")
    scans = _walk(folder)
    while page := list(islice(scans, PAGE)):
        yield page


def _walk(folder: Path) -> Iterator[ScanObject]:
    def refuse(error: OSError) -> None:
        raise CannotRunError(
            f"Cannot list {error.filename}: {error.strerror}. Grant read permission or choose "
            "another folder."
        ) from error

    for root, folders, files in os.walk(folder, onerror=refuse):
        folders.sort()
        for file in sorted(files):
            path = Path(root, file)
            if path.is_file():
                yield local_object(path)
            elif path.is_symlink():
                yield ScanObject(path.as_uri(), 0, "dangling", datetime.fromtimestamp(0, UTC))


def local_object(path: Path) -> ScanObject:
    """Describe a local file. Its ETag is made of modification time and size, so nothing is read."""
    status = path.stat()
    return ScanObject(
        path.as_uri(),
        status.st_size,
        f"{status.st_mtime_ns:x}-{status.st_size:x}",
        datetime.fromtimestamp(status.st_mtime, UTC),
    )
