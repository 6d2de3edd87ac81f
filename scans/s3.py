"""Download a zip, or every file under a prefix, from S3 or a server that speaks its protocol.

Credentials, region and `AWS_ENDPOINT_URL` come from boto3's own environment and files.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    HTTPClientError,
    NoCredentialsError,
)

from scans.errors import SourceError
from scans.limits import Limits
from scans.local_names import local_paths
from scans.progress import byte_progress, progress

PARALLEL_DOWNLOADS = 8
REQUEST_ATTEMPTS = 5  # with back-off, per request, by boto3 itself


def download_s3(source: str, target: Path, limits: Limits, *, unsigned: bool = False) -> None:
    """Download an object to a file, or everything under a prefix to a folder.

    Args:
        source: `s3://bucket/key`, or `s3://bucket/prefix/` with its last slash.
        target: the file, or the folder, to write.
        limits: how much may be downloaded.
        unsigned: send no credentials, as public buckets want it.

    Raises:
        SourceError: no such bucket or object, no access, no connection, or too much.
    """
    parts = urlsplit(source, allow_fragments=False)
    # A question mark may be part of a key.
    key = (parts.path + (f"?{parts.query}" if parts.query else "")).removeprefix("/")
    retries = {"max_attempts": REQUEST_ATTEMPTS, "mode": "standard"}
    signing = {"signature_version": UNSIGNED} if unsigned else {}
    config = Config(retries=retries, max_pool_connections=2 * PARALLEL_DOWNLOADS, **signing)
    with contextlib.closing(boto3.session.Session().client("s3", config=config)) as client:
        if key.endswith("/"):
            _download_prefix(client, parts.netloc, key, target, limits)
            return
        with byte_progress("Downloading") as bar:
            name = f"s3://{parts.netloc}/{key}"
            with _clear_errors(name):
                bar.total = client.head_object(Bucket=parts.netloc, Key=key)["ContentLength"]
            limits.check_total(bar.total, name)
            _download_object(client, parts.netloc, key, target, limits, bar.update)


def _download_object(
    client: Any,
    bucket: str,
    key: str,
    target: Path,
    limits: Limits,
    progressed: Callable[[int], object] | None = None,
) -> None:
    """Download an object; it is at `target` whole, or not at all."""
    name = f"s3://{bucket}/{key}"
    received = 0

    def count(size_bytes: int) -> None:
        nonlocal received
        received += size_bytes
        limits.check_total(received, name)
        if progressed:
            progressed(size_bytes)

    with _clear_errors(name):
        config = TransferConfig(use_threads=progressed is not None)  # or each file in one thread
        client.download_file(bucket, key, str(target), Callback=count, Config=config)


def _listed_keys(client: Any, bucket: str, prefix: str, limits: Limits) -> list[str]:
    """Return the key of every object under a prefix but for markers of empty folders."""
    name = f"s3://{bucket}/{prefix}"
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    keys: list[str] = []
    total_bytes = 0
    with _clear_errors(name):
        for listed in (found for page in pages for found in page.get("Contents", [])):
            key, size_bytes = listed["Key"], listed["Size"]
            total_bytes += size_bytes
            limits.check_file(size_bytes, f"s3://{bucket}/{key}")
            limits.check_total(total_bytes, name)
            if size_bytes or not key.endswith("/"):
                keys.append(key)
            limits.check_files(len(keys), name)
    if not keys:
        raise SourceError(f"Expected scans under {name}. Found no object. Correct the prefix.")
    return keys


def _download_prefix(client: Any, bucket: str, prefix: str, target: Path, limits: Limits) -> None:
    keys = _listed_keys(client, bucket, prefix, limits)
    files = [target / path for path in local_paths([key.removeprefix(prefix) for key in keys])]
    for folder in {file.parent for file in files}:
        folder.mkdir(parents=True, exist_ok=True)

    def download(key: str, file: Path) -> None:
        _download_object(client, bucket, key, file, limits)

    with ThreadPoolExecutor(PARALLEL_DOWNLOADS) as pool:
        done = pool.map(download, keys, files)
        try:
            for _ in progress(done, "Downloading", "file", len(keys)):
                pass
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


@contextlib.contextmanager
def _clear_errors(name: str) -> Iterator[None]:
    """Turn boto3's errors into SourceError."""
    try:
        yield
    except SourceError:
        raise
    except ClientError as e:
        status = e.response["ResponseMetadata"]["HTTPStatusCode"]
        raise SourceError(_refusal(name, e.response["Error"].get("Code", ""), status)) from e
    except NoCredentialsError as e:
        raise SourceError(
            f"{name} needs credentials. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
            "AWS_PROFILE; or set unsigned: true if the bucket is public."
        ) from e
    except (HTTPClientError, ConnectionError) as e:
        raise SourceError(
            f"{name} could not be downloaded: no connection to the server after "
            f"{REQUEST_ATTEMPTS} attempts. Check AWS_ENDPOINT_URL and the network and run again, "
            "or download it elsewhere and give the local files."
        ) from e
    except Boto3Error as e:  # broken connections, more often than boto3 tries again
        raise SourceError(
            f"{name} could not be downloaded: the connection broke too often. Check the network "
            "and run again, or download it elsewhere and give the local files."
        ) from e
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
            "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the bucket's policy; or set unsigned: "
            "true if the bucket is public."
        )
    if status == 412:
        return f"{name} changed while it was downloaded. Run again when nothing writes to it."
    return f"{name} could not be downloaded: the server answered {code or status}."
