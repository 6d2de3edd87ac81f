"""Where scans are read and rows are written: an S3 prefix or a local folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

from botocore.exceptions import BotoCoreError

from batch.faults import CannotRunError, s3_sentence

CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 60
MAX_ATTEMPTS = 8  # per request, the first included; adaptive mode also slows down when throttled


@dataclass(frozen=True)
class Location:
    """An S3 prefix (`bucket` set, `path` empty or ending in /) or a local folder."""

    bucket: str | None
    path: str

    @classmethod
    def parse(cls, text: str) -> Location:
        """Read `s3://bucket/prefix/`, `file:///folder` or a folder's path.

        A prefix is a folder: `s3://b/scans` means `s3://b/scans/`, not `s3://b/scans-old/` too.

        Raises:
            ValueError: it is neither; the message says what was expected.
        """
        parts = urlsplit(text)
        if parts.scheme == "s3":
            prefix = text.removeprefix("s3://").partition("/")[2]
            if not parts.netloc:
                raise ValueError(f"Expected s3://bucket/prefix/. Received: {text!r}.")
            return cls(parts.netloc, prefix if not prefix or prefix.endswith("/") else prefix + "/")
        if parts.scheme == "file":
            return cls(None, str(path_of(text).resolve()))
        if not text.strip() or "://" in text:
            raise ValueError(f"Expected s3://bucket/prefix/ or a local folder. Received: {text!r}.")
        return cls(None, str(Path(text).expanduser().resolve()))

    @property
    def uri(self) -> str:
        """Return the location as `s3://…/` or `file:///…`."""
        return f"s3://{self.bucket}/{self.path}" if self.bucket else Path(self.path).as_uri()

    def overlaps(self, other: Location) -> bool:
        """Return whether one of the two lies inside the other."""
        if self.bucket != other.bucket:
            return False
        if self.bucket:
            return self.path.startswith(other.path) or other.path.startswith(self.path)
        mine, its = Path(self.path), Path(other.path)
        return mine.is_relative_to(its) or its.is_relative_to(mine)


def path_of(file_uri: str) -> Path:
    """Return the path that a `file://` URI names, byte for byte: a name need not be UTF-8."""
    return Path(os.fsdecode(unquote_to_bytes(urlsplit(file_uri).path)))


@dataclass(frozen=True)
class Access:
    """How S3 is reached; plain values, so that it can travel to Spark's executors.

    Attributes:
        endpoint_url: of an S3 server that is not AWS's.
        workers: threads that use one client at once.
        sse_kms_key_id: the KMS key that encrypts the output.
        no_sign_request: read the input without credentials. The output is always signed.
    """

    endpoint_url: str | None = None
    workers: int = 16
    sse_kms_key_id: str | None = None
    no_sign_request: bool = False


def make_client(access: Access, *, signed: bool = True) -> Any:
    """Return the one kind of S3 client the job uses: adaptive retries, timeouts, enough sockets.

    Args:
        signed: False sends no credentials, for public buckets.

    Raises:
        CannotRunError: the endpoint is no URL, or AWS's own configuration cannot be used.
    """
    import boto3
    import botocore.session
    from botocore import UNSIGNED
    from botocore.config import Config

    config = Config(
        retries={"mode": "adaptive", "total_max_attempts": MAX_ATTEMPTS},
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        max_pool_connections=access.workers + 4,  # the writer, the lister and the lock
        signature_version=None if signed else UNSIGNED,
    )
    try:
        # A session of its own: the default one is not safe to use from several threads.
        botocore_session = botocore.session.get_session()
        parsers = botocore_session.get_component("response_parser_factory")
        parsers.set_parser_defaults(timestamp_parser=parse_timestamp)
        session = boto3.session.Session(botocore_session=botocore_session)
        return session.client("s3", endpoint_url=access.endpoint_url, config=config)
    except ValueError as error:
        raise CannotRunError(
            f"Cannot reach S3: {error}. Expected --endpoint-url (or AWS_ENDPOINT_URL) as "
            "http://host:port or https://host."
        ) from error
    except BotoCoreError as error:
        raise CannotRunError(s3_sentence(error, "reach S3")) from error


def input_client(location: Location, access: Access) -> Any | None:
    """Return a client that reads a location in S3; a local folder needs none."""
    return make_client(access, signed=not access.no_sign_request) if location.bucket else None


def parse_timestamp(value: Any) -> datetime:
    """Parse a time as S3 writes it; anything else as botocore does.

    S3 has ISO 8601 in listings and RFC 9110 dates in headers. botocore leaves both to dateutil,
    which takes two thirds of the time of a listing.
    """
    if isinstance(value, str):
        try:
            if value.endswith("Z"):
                return datetime.fromisoformat(value)
            if value.endswith(" GMT"):
                return parsedate_to_datetime(value)
        except ValueError:
            pass
    from botocore.utils import parse_timestamp as parse_any

    parsed: datetime = parse_any(value)
    return parsed


def list_pages(client: Any, bucket: str, prefix: str) -> Iterator[list[dict[str, Any]]]:
    """Yield S3's listing page by page (at most 1,000 entries), following continuation tokens."""
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        yield page.get("Contents", [])
