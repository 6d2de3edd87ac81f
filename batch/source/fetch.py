"""Reading an object whole: retried, and checked against its length and ETag."""

from __future__ import annotations

import hashlib
import random
import re
import time
from dataclasses import dataclass, replace
from typing import Any

from botocore.exceptions import (
    ConnectionError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
    ResponseStreamingError,
)

from batch.faults import is_credential_fault, read_fault
from batch.locations import path_of
from batch.source.listing import ScanObject, local_object, strip_quotes

BODY_ATTEMPTS = 5  # botocore retries a request, but not a body that breaks off
MAX_BYTES = 256 * 2**20  # an object that is larger is no scan: it gets a row and is not read
MD5_ETAG = re.compile(r"[0-9a-f]{32}")


class BodyMismatchError(Exception):
    """The bytes that came are not the object's."""


@dataclass(frozen=True)
class Fetched:
    """An object and its bytes, or why there are none.

    Attributes:
        scan: the object as it was when read, which is not always as it was listed.
        data: the whole content, or None.
        error: the text for the `error` column when `data` is None.
    """

    scan: ScanObject
    data: bytes | None
    error: str | None = None


def fetch_object(client: Any | None, scan: ScanObject) -> Fetched:
    """Read an object whole; what is wrong with it becomes its error.

    Args:
        client: an S3 client; None when the objects are local files.

    Raises:
        Exception: credentials have ended, so that every further object would fail as well.
    """
    if scan.size_bytes > MAX_BYTES:
        return Fetched(scan, None, f"too_large: {scan.size_bytes} bytes; at most {MAX_BYTES}")
    try:
        return _fetch_from_s3(client, scan) if client else _fetch_file(scan)
    except Exception as error:
        if is_credential_fault(error):
            raise
        return Fetched(scan, None, read_fault(error))


def _fetch_file(scan: ScanObject) -> Fetched:
    path = path_of(scan.uri)
    now = local_object(path)  # first: a file that changes meanwhile is scored anew next time
    data = path.read_bytes()
    return Fetched(replace(now, size_bytes=len(data)), data)


def _fetch_from_s3(client: Any, scan: ScanObject) -> Fetched:
    bucket, _, key = scan.uri.removeprefix("s3://").partition("/")
    data, response = read_s3_object(client, bucket, key)
    now = ScanObject(scan.uri, len(data), strip_quotes(response["ETag"]), response["LastModified"])
    return Fetched(now, data)


def read_s3_object(client: Any, bucket: str, key: str) -> tuple[bytes, dict[str, Any]]:
    """Get an object and check that it came whole.

    Returns:
        The content, and S3's response without its body.

    Raises:
        ClientError: S3 refuses (after botocore's own retries).
        Exception: the body broke off or did not match five times.
    """
    for attempt in range(1, BODY_ATTEMPTS + 1):
        try:
            response = client.get_object(Bucket=bucket, Key=key)
            data = response.pop("Body").read()
            check_body(data, response)
            return data, response
        except (
            BodyMismatchError,
            ConnectionError,
            FlexibleChecksumError,
            HTTPClientError,
            IncompleteReadError,
            ResponseStreamingError,
        ):
            if attempt == BODY_ATTEMPTS:
                raise
            time.sleep(random.uniform(0, 0.1 * 2**attempt))  # noqa: S311 - jitter, not a secret
    raise AssertionError("unreachable")


def check_body(data: bytes, response: dict[str, Any]) -> None:
    """Compare content with the response's length and, where it is an MD5, its ETag.

    The ETag is the content's MD5 unless the object came in several parts (it then holds a dash) or
    is encrypted with KMS or a customer's key
    (https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html).
    """
    length = response.get("ContentLength")
    if length is not None and length != len(data):
        raise BodyMismatchError(f"expected {length} bytes, received {len(data)}")
    etag = strip_quotes(response["ETag"])
    plain = response.get("ServerSideEncryption", "AES256") == "AES256"
    if plain and "SSECustomerAlgorithm" not in response and MD5_ETAG.fullmatch(etag):
        digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
        if digest != etag:
            raise BodyMismatchError("the content's MD5 is not the ETag")
