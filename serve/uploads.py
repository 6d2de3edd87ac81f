"""What came in an upload: files, and the members of zips, each read when it is needed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from serve.http.errors import RefusalError
from serve.http.request_limits import RequestLimits
from serve.scoring import too_many_rows
from serve.zips import Allowance, DamagedZipError, is_zip, open_zip

CURL = 'curl -F "files=@scan.png" http://…/predict'
MAX_FIELDS = 100
MAX_HEADER_BYTES = 16 * 1024  # of a part: a file's name and type
PIECES_A_TURN = 16  # of 64 kB, before other requests get their turn
FILES, FIELDS = "Too many files", "Too many fields"


@dataclass(frozen=True)
class Scan:
    """One file of an upload.

    Attributes:
        file: its name, as it is shown.
        size: in bytes.
        read: returns the first n bytes, or all with -1; raises DamagedZipError.
        zipped: whether it came in a zip.
    """

    file: str
    size: int
    read: Callable[[int], bytes]
    zipped: bool = False


@dataclass(frozen=True)
class LeftOut:
    """Something in an upload that is not scored, and why."""

    file: str
    reason: str


@dataclass(frozen=True)
class Upload:
    """The scans of a request, and what of it is none."""

    scans: list[Scan]
    left_out: list[LeftOut]

    @property
    def zipped(self) -> bool:
        """Return whether any scan came in a zip."""
        return any(scan.zipped for scan in self.scans)


class _InMemoryParser(MultiPartParser):
    """Starlette's parser, which keeps files in memory and headers short.

    By default parts over 1 MB move to a file; a patient's scan must not reach the disk.
    """

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._check(self._current_partial_header_name, end - start)
        super().on_header_field(data, start, end)

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._check(self._current_partial_header_value, end - start)
        super().on_header_value(data, start, end)

    @staticmethod
    def _check(known: bytes, more: int) -> None:
        if len(known) + more > MAX_HEADER_BYTES:
            raise MultiPartException("Too long headers.")


async def multipart_form(request: Request, limits: RequestLimits) -> FormData:
    """Return a multipart request's fields and files, held in memory.

    Raises:
        RefusalError: 415 if it is not multipart, 400 if it is broken, 413 if it holds more files
            than any request may.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise RefusalError(
            415, "bad_request", f"Expected multipart/form-data with one or more files: {CURL}"
        )

    async def pieces() -> AsyncGenerator[bytes, None]:
        number = 0
        async for piece in request.stream():
            yield piece
            number += 1
            if number % PIECES_A_TURN == 0:
                await asyncio.sleep(0)

    most = limits.most_scans
    parser = _InMemoryParser(request.headers, pieces(), max_files=most, max_fields=MAX_FIELDS)
    parser.spool_max_size = limits.body_bytes(request.url.path) + 1
    try:
        return await parser.parse()
    except MultiPartException as error:
        if error.message.startswith(FILES):
            raise too_many_rows(most, "received more") from error
        message = f"Expected multipart/form-data with one or more files, as from {CURL}"
        raise RefusalError(400, "bad_request", f"{message}; this body is broken.") from error


def files_in(form: FormData) -> list[UploadFile]:
    """Return the files of a form, whatever their fields are called.

    Raises:
        RefusalError: 400 if there is none.
    """
    # A form sent without a choice has one part with neither a name nor a byte.
    parts = [part for _, part in form.multi_items() if isinstance(part, UploadFile)]
    files = [part for part in parts if part.filename or part.size]
    if not files:
        raise RefusalError(400, "bad_request", "Expected one or more scans and received no file.")
    return files


def upload_of(files: list[UploadFile], limits: RequestLimits) -> Upload:
    """Return the scans in files, with the members of zips in their place. For a worker thread.

    Raises:
        RefusalError: 413 if zips hold more members or bytes than a request may.
    """
    allowance = Allowance(limits.most_scans, limits.max_series_bytes, limits.max_body_bytes)
    scans: list[Scan] = []
    left_out: list[LeftOut] = []
    for part in files:
        name, size = part.filename or "", part.size or 0
        read = reader_of(part.file)
        if not is_zip(read(132)):
            scans.append(Scan(name, size, read))
            continue
        try:
            members = open_zip(part.file, name, allowance)
        except DamagedZipError as error:
            left_out.append(LeftOut(name, str(error)))
            continue
        if members is None:  # an office document, say: the decoder says what it is
            scans.append(Scan(name, size, read))
            continue
        scans += [Scan(member.file, member.size, member.read, True) for member in members.scans]
        left_out += [LeftOut(file, reason) for file, reason in members.left_out]
    return Upload(scans, left_out)


def reader_of(file: Any) -> Callable[[int], bytes]:
    """Return a function that reads a file from its start."""

    def read(size: int) -> bytes:
        file.seek(0)
        content: bytes = file.read(size)
        return content

    return read
