"""The output's files: whole or conditional writes to an S3 prefix or a local folder."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import time
from collections.abc import Iterable, Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Protocol

from botocore.exceptions import ClientError

from batch.faults import (
    CONFLICT,
    NOT_FOUND,
    CannotRunError,
    error_code,
    is_s3_fault,
    s3_sentence,
)
from batch.locations import Access, Location, list_pages, make_client

KEYS_PER_DELETE = 1000  # S3's limit for one DeleteObjects request


class ConflictError(Exception):
    """A conditional write found something else than it expected."""


class Store(Protocol):
    """The few operations on the output that the job needs. Names are relative to it."""

    uri: str

    def names(self, prefix: str = "") -> list[str]:
        """Return the sorted names that begin with `prefix`."""

    def read(self, name: str) -> tuple[bytes, str]:
        """Return content and version tag. Raises FileNotFoundError."""

    def age_s(self, name: str) -> float:
        """Return seconds since the last write, by the store's own clock."""

    def write(self, name: str, data: bytes, *, only_if: str | None = None) -> str:
        """Write whole or not at all and return the version tag.

        Args:
            only_if: `absent`, or the version tag that must still be there.

        Raises:
            ConflictError: the condition does not hold.
        """

    def delete(self, names: Iterable[str]) -> None:
        """Delete what is there of `names`."""


def open_store(location: Location, access: Access) -> Store:
    """Return the store for a location."""
    if location.bucket:
        return S3Store(make_client(access), location, access.sse_kms_key_id)
    return FolderStore(Path(location.path))


class S3Store:
    """Names under an S3 prefix."""

    def __init__(self, client: Any, location: Location, sse_kms_key_id: str | None) -> None:
        self.client = client
        self.bucket = location.bucket
        self.prefix = location.path
        self.uri = location.uri
        self.encryption = (
            {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": sse_kms_key_id}
            if sse_kms_key_id
            else {}
        )

    def names(self, prefix: str = "") -> list[str]:
        """Return the sorted names that begin with `prefix`."""
        try:
            pages = list_pages(self.client, str(self.bucket), self.prefix + prefix)
            return sorted(entry["Key"][len(self.prefix) :] for page in pages for entry in page)
        except Exception as error:
            raise self._sentence(error, f"list {self.uri}") from error

    def read(self, name: str) -> tuple[bytes, str]:
        """Return content and ETag."""
        from batch.source.fetch import read_s3_object

        try:
            data, response = read_s3_object(self.client, str(self.bucket), self.prefix + name)
        except ClientError as error:
            if error_code(error) in NOT_FOUND:
                raise FileNotFoundError(name) from error
            raise self._sentence(error, f"read {self.uri}{name}") from error
        except Exception as error:
            raise self._sentence(error, f"read {self.uri}{name}") from error
        return data, response["ETag"]

    def age_s(self, name: str) -> float:
        """Return seconds between S3's own clock and the object's last write."""
        try:
            head = self.client.head_object(Bucket=self.bucket, Key=self.prefix + name)
        except ClientError as error:
            if error_code(error) in NOT_FOUND:
                raise FileNotFoundError(name) from error
            raise self._sentence(error, f"read {self.uri}{name}") from error
        now = parsedate_to_datetime(head["ResponseMetadata"]["HTTPHeaders"]["date"])
        return float((now - head["LastModified"]).total_seconds())

    def write(self, name: str, data: bytes, *, only_if: str | None = None) -> str:
        """Put one object, conditionally."""
        condition = {}
        if only_if:
            condition = {"IfNoneMatch": "*"} if only_if == "absent" else {"IfMatch": only_if}
        try:
            response = self.client.put_object(
                Bucket=self.bucket,
                Key=self.prefix + name,
                Body=data,
                **condition,
                **self.encryption,
            )
        except ClientError as error:
            if only_if and error_code(error) in CONFLICT | NOT_FOUND:
                return self._own_write(name, data, error)
            raise self._sentence(error, f"write to {self.uri}") from error
        except Exception as error:
            raise self._sentence(error, f"write to {self.uri}") from error
        return str(response["ETag"])

    def _own_write(self, name: str, data: bytes, error: ClientError) -> str:
        # A put that arrived but whose answer was lost is sent again by botocore, and then its own
        # first attempt is the conflict.
        try:
            there, etag = self.read(name)
        except FileNotFoundError:
            raise ConflictError(name) from error
        if there != data:
            raise ConflictError(name) from error
        return etag

    def delete(self, names: Iterable[str]) -> None:
        """Delete up to 1,000 names a request."""
        keys = [{"Key": self.prefix + name} for name in names]
        for start in range(0, len(keys), KEYS_PER_DELETE):
            batch = {"Objects": keys[start : start + KEYS_PER_DELETE], "Quiet": True}
            try:
                response = self.client.delete_objects(Bucket=self.bucket, Delete=batch)
            except Exception as error:
                raise self._sentence(error, f"remove files in {self.uri}") from error
            if response.get("Errors"):
                code = response["Errors"][0].get("Code")
                raise CannotRunError(
                    f"Cannot remove files in {self.uri}: S3 answered {code}. The job removes its "
                    "own working files; grant s3:DeleteObject (docs/batch.md)."
                )

    def _sentence(self, error: Exception, doing: str) -> Exception:
        return CannotRunError(s3_sentence(error, doing)) if is_s3_fault(error) else error


class FolderStore:
    """Names under a local folder. Version tags are digests of the content."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.uri = folder.as_uri() + "/"

    def names(self, prefix: str = "") -> list[str]:
        """Return the sorted names that begin with `prefix`."""
        found = []
        for root, _folders, files in os.walk(self.folder):
            relative = Path(root).relative_to(self.folder).as_posix()
            for file in files:
                name = file if relative == "." else f"{relative}/{file}"
                if name.startswith(prefix) and not file.startswith(".tmp-"):
                    found.append(name)
        return sorted(found)

    def read(self, name: str) -> tuple[bytes, str]:
        """Return content and digest."""
        try:
            data = (self.folder / name).read_bytes()
        except PermissionError as error:
            raise CannotRunError(
                f"Cannot read {self.folder / name}: {error.strerror}. Grant read permission, then "
                "run the same command again."
            ) from error
        return data, _digest(data)

    def age_s(self, name: str) -> float:
        """Return seconds since the file was written."""
        return time.time() - (self.folder / name).stat().st_mtime

    def write(self, name: str, data: bytes, *, only_if: str | None = None) -> str:
        """Write beside, flush to disk, then rename (or link, where nothing may be there)."""
        path = self.folder / name
        scratch = path.with_name(f".tmp-{os.getpid()}-{os.urandom(6).hex()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with scratch.open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                if only_if == "absent":
                    os.link(scratch, path)
                elif only_if is None:
                    scratch.replace(path)
                else:
                    with _one_at_a_time(path.parent):
                        if self._tag(path) != only_if:
                            raise ConflictError(name)
                        scratch.replace(path)
            finally:
                scratch.unlink(missing_ok=True)
        except FileExistsError as error:
            raise ConflictError(name) from error
        except OSError as error:
            raise CannotRunError(
                f"Cannot write to {self.folder}: {error.strerror}. Check its permissions and the "
                "free space, then run the same command again."
            ) from error
        return _digest(data)

    def delete(self, names: Iterable[str]) -> None:
        """Delete files; emptied folders below the output go as well."""
        for name in names:
            path = self.folder / name
            path.unlink(missing_ok=True)
            parent = path.parent
            if parent != self.folder and parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()

    @staticmethod
    def _tag(path: Path) -> str | None:
        return _digest(path.read_bytes()) if path.exists() else None


@contextlib.contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Keep other processes that ask for the same folder out until the block ends."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems have no locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
