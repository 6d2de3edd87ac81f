"""Download a file shared on Google Drive."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import gdown
import requests
from gdown.exceptions import DownloadError, FileURLRetrievalError
from gdown.parse_url import parse_url

from scans.errors import SourceError
from scans.limits import Limits
from scans.sources import DRIVE_ID

RETRIES = 4
TIMEOUT_S = (15.0, 60.0)  # to connect, and between two bytes
ALTERNATIVES = (
    "Or download it with a browser and give the local zip, or put it where an https:// or s3:// "
    "address reaches it."
)
QUOTA_WORDS = ("too many users", "quota", "many accesses", "viewed or downloaded")


def download_drive_file(source: str, target: Path, limits: Limits) -> None:
    """Download a shared file; it is at `target` whole, or not at all.

    Args:
        source: share link or file id.
        target: the file to write.
        limits: how large it may be.

    Raises:
        SourceError: the link names no file, or Google does not give it, too large, no network.
    """
    file_id = drive_file_id(source)
    name = f"Google Drive file {file_id}"

    def check(received: int, total: int | None) -> None:
        limits.check_total(max(received, total or 0), name)

    try:
        gdown.download(
            id=file_id, output=str(target), quiet=False, use_cookies=False, progress=check,
            timeout=TIMEOUT_S, retries=RETRIES,
            log_messages={"start": f"Downloading {name}\n", "output": ""},
        )  # fmt: skip
    except FileURLRetrievalError as e:
        raise SourceError(_refusal(name, str(e))) from e
    except requests.HTTPError as e:
        raise SourceError(_refusal(name, f"HTTP {e.response.status_code}")) from e
    except (DownloadError, requests.RequestException) as e:
        raise SourceError(
            f"{name} could not be downloaded: {type(e).__name__}, after {RETRIES} retries. Check "
            f"the network and run again. {ALTERNATIVES}"
        ) from e


def drive_file_id(source: str) -> str:
    """Return the file id in a share link, or the id itself.

    Raises:
        SourceError: a folder's link, or one without an id.
    """
    if DRIVE_ID.fullmatch(source):
        return source
    parts = urlsplit(source)
    if "/folders/" in parts.path or "/folderview" in parts.path:
        raise SourceError(
            "Expected the share link of one zip on Google Drive. Received a folder's link: "
            f"{source}. Zip the folder, share the zip and give its link."
        )
    file_id = parse_url(url=source)[0] or parse_qs(parts.query).get("id", [""])[0]
    if not file_id:
        raise SourceError(
            "Expected a Google Drive link such as https://drive.google.com/file/d/<id>/view. "
            f"Received: {source}"
        )
    return str(file_id)


def _refusal(name: str, page: str) -> str:
    """Return one clear message for the pages that Google shows instead of a file."""
    text = " ".join(page.lower().split())
    if any(words in text for words in QUOTA_WORDS) and "change the permission" not in text:
        return (
            f"{name}: Google refuses more downloads for now, since its quota is used up (it is "
            f"counted over 24 hours). Try again tomorrow, or make a copy in your own Drive and "
            f"share that. {ALTERNATIVES}"
        )
    return (
        f"{name}: Google does not give it without a login. Expected a file shared with 'Anyone "
        "with the link', whose download quota is not used up. Change the sharing, and check the "
        f"id. {ALTERNATIVES}"
    )
