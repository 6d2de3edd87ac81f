"""Download a zip, or every file under a prefix, from S3 or a server that speaks its protocol.

Credentials, region and `AWS_ENDPOINT_URL` come from boto3's own environment and files.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import boto3
import urllib3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
)

from scans.download import CHUNK_BYTES, Opened, TransientError, download_whole
from scans.errors import SourceError
from scans.limits import Limits
from scans.progress import progress

PARALLEL_DOWNLOADS = 8
REQUEST_ATTEMPTS = 5  # with back-off, per request, by boto3 itself


def download_s3(source: str, target: Path, limits: Limits) -> None:
    """Download an object to a file, or everything under a prefix to a folder.

    Args:
        source: `s3://bucket/key`, or `s3://bucket/prefix/` with its last slash.
        target: the file, or the folder, to write.
        limits: how much may be downloaded.

    Raises:
        SourceError: no such bucket or object, no access, no connection, or too much.
    """
    parts = urlsplit(source, allow_fragments=False)
    # A question mark may be part of a key.
    key = (parts.path + (f"?{parts.query}" if parts.query else "")).lstrip("/")
    retries = {"max_attempts": REQUEST_ATTEMPTS, "mode": "standard"}
    client = boto3.session.Session().client("s3", config=Config(retries=retries))
    if key.endswith("/"):
        _download_prefix(client, parts.netloc, key, target, limits)
    else:
        _download_object(client, parts.netloc, key, target, limits)


def _download_object(
    client: Any, bucket: str, key: str, target: Path, limits: Limits, *, progress: bool = True
) -> None:
    name = f"s3://{bucket}/{key}"

    @contextlib.contextmanager
    def open_at(offset: int, version: str) -> Iterator[Opened]:
        request = {"Bucket": bucket, "Key": key}
        if offset and version:
            request |= {"Range": f"bytes={offset}-", "IfMatch": version}
        with _clear_errors(name):
            try:
                answer = client.get_object(**request)
            except ClientError as e:
                if e.response["ResponseMetadata"]["HTTPStatusCode"] not in (412, 416):
                    raise
                # The object was replaced meanwhile: two halves must not make one file.
                answer = client.get_object(Bucket=bucket, Key=key)
        start = offset if "ContentRange" in answer else 0
        total = start + answer["ContentLength"]
        with contextlib.closing(answer["Body"]) as body:
            yield Opened(start, total, answer["ETag"], _chunks(body))

    download_whole(open_at, target, limits, name, progress=progress)


def _chunks(body: Any) -> Iterator[bytes]:
    try:
        yield from body.iter_chunks(CHUNK_BYTES)
    except (HTTPClientError, IncompleteReadError, urllib3.exceptions.HTTPError, OSError) as e:
        raise TransientError("the connection broke") from e


def _listed_paths(
    client: Any, bucket: str, prefix: str, limits: Limits
) -> dict[str, PurePosixPath]:
    """Return where each object under a prefix goes below the target folder."""
    name = f"s3://{bucket}/{prefix}"
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    paths: dict[str, PurePosixPath] = {}
    total_bytes = 0
    try:
        with _clear_errors(name):
            for listed in (found for page in pages for found in page.get("Contents", [])):
                key, size_bytes = listed["Key"], listed["Size"]
                total_bytes += size_bytes
                limits.check_file(size_bytes, f"s3://{bucket}/{key}")
                limits.check_total(total_bytes, name)
                if not key.endswith("/"):  # a console's marker of an empty folder
                    paths[key] = _safe_path(key, prefix, name)
                limits.check_files(len(paths), name)
    except TransientError as e:
        raise SourceError(
            f"{name} could not be listed: {e}. Check AWS_ENDPOINT_URL and the network, run again."
        ) from e
    if not paths:
        raise SourceError(f"Expected scans under {name}. Found no object. Correct the prefix.")
    return paths


def _download_prefix(client: Any, bucket: str, prefix: str, target: Path, limits: Limits) -> None:
    paths = _listed_paths(client, bucket, prefix, limits)
    target.mkdir(parents=True)

    def fetch(key: str) -> None:
        file = target / paths[key]
        file.parent.mkdir(parents=True, exist_ok=True)
        _download_object(client, bucket, key, file, limits, progress=False)

    with ThreadPoolExecutor(PARALLEL_DOWNLOADS) as pool:
        done = pool.map(fetch, paths)
        for _ in progress(done, "Downloading", "file", len(paths)):
            pass


def _safe_path(key: str, prefix: str, name: str) -> PurePosixPath:
    """Return where an object goes below the target folder."""
    path = PurePosixPath(key.removeprefix(prefix))
    if path.is_absolute() or ".." in path.parts or "\\" in key:
        raise SourceError(
            f"{name} holds the key {key!r}, a path that leads out of a folder. Rename the object."
        )
    return path


@contextlib.contextmanager
def _clear_errors(name: str) -> Iterator[None]:
    """Turn boto3's errors into SourceError, or TransientError where another attempt may help."""
    try:
        yield
    except SourceError:
        raise
    except ClientError as e:
        status = e.response["ResponseMetadata"]["HTTPStatusCode"]
        if status >= 500 or status == 429:
            raise TransientError(f"the server answered HTTP {status}") from e
        raise SourceError(_refusal(name, e.response["Error"].get("Code", ""), status)) from e
    except NoCredentialsError as e:
        raise SourceError(
            f"{name} needs credentials. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
            "AWS_PROFILE."
        ) from e
    except (HTTPClientError, ConnectionError) as e:
        raise TransientError("no connection to the server") from e
    except (BotoCoreError, ValueError) as e:
        raise SourceError(f"{name} could not be downloaded: {e}") from e


def _refusal(name: str, code: str, status: int) -> str:
    if code in ("NoSuchKey", "NoSuchBucket") or status == 404:
        return f"{name} does not exist. Correct bucket and key; a prefix ends with a slash: {name}/"
    if status in (301, 307):
        return f"{name} lies in another region. Set AWS_DEFAULT_REGION to the bucket's region."
    if status in (401, 403):
        return (
            f"{name} may not be read with these credentials ({code or status}). Check "
            "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the bucket's policy."
        )
    return f"{name} could not be downloaded: the server answered {code or status}."
