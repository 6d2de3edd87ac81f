"""Download one file over an unreliable network: resumed, retried, and whole or not there at all."""

from __future__ import annotations

import contextlib
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import requests
from tqdm import tqdm

from scans.errors import SourceError
from scans.limits import Limits
from scans.progress import byte_progress
from scans.sources import redacted

ATTEMPTS = 5  # in a row without a byte received; progress starts the count anew
FIRST_WAIT_S = 1.0  # doubled after each attempt
LONGEST_WAIT_S = 30.0
TIMEOUT_S = (15.0, 60.0)  # to connect, and between two bytes
CHUNK_BYTES = 1 << 18
TRANSIENT_STATUS = {408, 425, 429, 500, 502, 503, 504}


class TransientError(Exception):
    """A download failed in a way that another attempt may mend."""

    def __init__(self, reason: str, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


@dataclass(frozen=True)
class Opened:
    """An answer that bytes can be read from.

    Attributes:
        offset: where in the file the bytes start: what was asked for, or 0 from a server that
            cannot resume or whose file has changed.
        total_bytes: size of the whole file, None where the server does not say.
        version: tag of the file's content, to resume the same one; "" without.
        chunks: the bytes; raises TransientError when the connection fails.
    """

    offset: int
    total_bytes: int | None
    version: str
    chunks: Iterator[bytes]


Open = Callable[[int, str], contextlib.AbstractContextManager[Opened]]


def download_whole(
    open_at: Open,
    target: Path,
    limits: Limits,
    name: str,
    *,
    progress: bool = True,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Download a file to a temporary name and rename it once all its bytes are there.

    Args:
        open_at: given an offset and the version seen before, opens the file from there.
        target: the file to write.
        limits: how large it may be.
        name: what to call the file in messages, without secrets.
        progress: whether to show a progress bar.
        sleep: waits between attempts.

    Raises:
        SourceError: the file is too large, or the network failed ATTEMPTS times in a row.
    """
    part = target.with_name(target.name + ".part")
    failures, version = 0, ""
    part.write_bytes(b"")
    with byte_progress("Downloading", shown=progress) as bar:
        while True:
            size_bytes = part.stat().st_size
            try:
                with open_at(size_bytes, version) as opened:
                    version = opened.version
                    _receive(opened, part, bar, limits, name)
                break
            except TransientError as e:
                failures = 1 if part.stat().st_size > size_bytes else failures + 1
                if failures >= ATTEMPTS:
                    raise SourceError(
                        f"{name} could not be downloaded: {e}, {failures} times in a row. Check "
                        "the network and the address and run again, or download it elsewhere and "
                        "give the local zip."
                    ) from e
                wait_s = max(e.wait_s, FIRST_WAIT_S * 2 ** (failures - 1))
                tqdm.write(f"{name}: {e}; trying again", file=sys.stderr)
                sleep(min(wait_s, LONGEST_WAIT_S))
    part.replace(target)


def _receive(opened: Opened, part: Path, bar: tqdm, limits: Limits, name: str) -> None:
    """Append an answer's bytes to the partial file, and check that none is missing."""
    if opened.total_bytes is not None:
        limits.check_total(opened.total_bytes, name)
        bar.total = opened.total_bytes
    with part.open("r+b") as file:
        file.truncate(opened.offset)
        file.seek(opened.offset)
        received = opened.offset
        bar.n = received
        for chunk in opened.chunks:
            received += len(chunk)
            limits.check_total(received, name)
            file.write(chunk)
            bar.update(len(chunk))
    if opened.total_bytes is not None and received != opened.total_bytes:
        raise TransientError(f"{received:,} of {opened.total_bytes:,} bytes came")


def download_url(
    url: str, target: Path, limits: Limits, *, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Download a file over HTTP(S).

    Raises:
        SourceError: the server does not have it, does not give it, or cannot be reached.
    """
    name = redacted(url)
    with requests.Session() as session:

        @contextlib.contextmanager
        def open_at(offset: int, version: str) -> Iterator[Opened]:
            # Encodings would make the length and offsets those of other bytes.
            headers = {"Accept-Encoding": "identity"}
            if offset and version:
                headers |= {"Range": f"bytes={offset}-", "If-Range": version}
            with _get(session, url, headers, name) as response:
                yield _opened(response, offset, name)

        download_whole(open_at, target, limits, name, sleep=sleep)


def _get(
    session: requests.Session, url: str, headers: dict[str, str], name: str
) -> requests.Response:
    try:
        response = session.get(url, headers=headers, stream=True, timeout=TIMEOUT_S)
        if response.status_code == 416:  # the file has become shorter: start again
            response.close()
            headers = {"Accept-Encoding": "identity"}
            response = session.get(url, headers=headers, stream=True, timeout=TIMEOUT_S)
    except requests.RequestException as e:
        raise _network_error(e, name) from e
    return response


def _opened(response: requests.Response, offset: int, name: str) -> Opened:
    """Read the head of an answer."""
    status = response.status_code
    if status in TRANSIENT_STATUS:
        wait = response.headers.get("Retry-After", "")
        raise TransientError(
            f"the server answered HTTP {status}", float(wait) if wait.isdigit() else 0.0
        )
    if status not in (200, 206):
        advice = {401: "needs a login", 403: "refuses access", 404: "has no such file",
                  410: "no longer has the file"}.get(status, "does not give the file")  # fmt: skip
        raise SourceError(
            f"{name} could not be downloaded: the server {advice} (HTTP {status}). Correct the "
            "address, or download the file with a browser and give the local zip."
        )
    length = response.headers.get("Content-Length", "")
    total = int(length) if length.isdigit() else None
    start = 0
    if status == 206:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        if match is None or int(match[1]) != offset:
            raise TransientError("the server answered with other bytes than asked for")
        start, total = offset, int(match[2])
    version = response.headers.get("ETag", "")
    if not version or version.startswith("W/"):  # If-Range takes strong validators only
        version = response.headers.get("Last-Modified", "")
    return Opened(start, total, version, _chunks(response, name))


def _chunks(response: requests.Response, name: str) -> Iterator[bytes]:
    try:
        yield from response.iter_content(CHUNK_BYTES)
    except requests.RequestException as e:
        raise _network_error(e, name) from e


def _network_error(error: requests.RequestException, name: str) -> Exception:
    """Return what to raise for a request that failed: again, or never."""
    if isinstance(error, requests.exceptions.SSLError):
        return SourceError(
            f"{name} could not be downloaded: its certificate is not trusted here. Set "
            "REQUESTS_CA_BUNDLE to your network's certificates, or give a local zip."
        )
    if isinstance(error, requests.exceptions.ProxyError):
        return SourceError(
            f"{name} could not be downloaded: the proxy refused. Check HTTPS_PROXY and NO_PROXY."
        )
    if isinstance(error, requests.ConnectionError | requests.Timeout):
        return TransientError("no connection to the server")
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return TransientError("the connection broke")
    # The exception's own text may hold the address with its secrets.
    return SourceError(
        f"{name} could not be downloaded ({type(error).__name__}). Correct the address."
    )
