"""Bring the files of a source of scans into a local folder."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from scans.archive import extract_zip
from scans.download import download_url
from scans.drive import download_drive_file
from scans.errors import SourceError
from scans.limits import Limits
from scans.phantom.drawing import write_phantoms
from scans.phantom.patients import DEFAULT_PATIENTS, write_phantom_patients
from scans.s3 import download_s3
from scans.sources import Kind, parse_sources, redacted, source_kind

SHA256_HEX = re.compile(r"[0-9a-fA-F]{64}")


@dataclass(frozen=True)
class SourceFiles:
    """Where a source's files are.

    Attributes:
        folder: holds the files.
        kind: what the source was.
        masks: folder with nodule masks `<stem of the scan's file>.png`, for phantoms only.
        name: of the source where there are several, else None.
    """

    folder: Path
    kind: Kind = "folder"
    masks: Path | None = None
    name: str | None = None


def fetch_sources(
    source: str,
    work: Path,
    *,
    sha256: str = "",
    limits: Limits,
    unsigned: bool = False,
    **phantoms: int,
) -> list[SourceFiles]:
    """Download, unpack or draw the files of one source or of several.

    Args:
        source: one source, or several as `name=where;name=where`.
        work: a new or empty folder for what is downloaded and unpacked.
        sha256: of the source's zip; of several zips, `name=sha256;name=sha256`.
        limits: how much each source may hold.
        unsigned: send S3 no credentials, as public buckets want it.
        phantoms: see `fetch_scans`.

    Raises:
        SourceError: as `fetch_scans`; or sources, or digests, that are not named as they should be.
    """
    sources = parse_sources(source)
    digests = _digests(sha256, [named.name for named in sources])
    fetched = []
    for number, named in enumerate(sources):
        own = fetch_scans(
            named.where, work / str(number), sha256=digests.get(named.name, ""), limits=limits,
            unsigned=unsigned, **phantoms,
        )  # fmt: skip
        fetched.append(replace(own, name=named.name))
    return fetched


def _digests(sha256: str, names: Sequence[str | None]) -> dict[str | None, str]:
    """Return the expected digest of each source that has one."""
    if not sha256 or names == [None]:
        return {None: sha256}
    parts = [part.partition("=") for part in sha256.split(";") if part.strip()]
    digests: dict[str | None, str] = {
        name.strip(): digest.strip() for name, _, digest in parts if digest
    }
    if len(digests) < len(parts) or not digests.keys() <= set(names):
        raise SourceError(
            "Expected sha256 as name=digest;name=digest with the names of the sources "
            f"({', '.join(map(str, names))}). Received: {sha256!r}"
        )
    return digests


def fetch_scans(
    source: str,
    work: Path,
    *,
    sha256: str = "",
    limits: Limits,
    unsigned: bool = False,
    phantom_images: int = 0,
    phantom_patients: int = DEFAULT_PATIENTS,
    seed: int = 0,
) -> SourceFiles:
    """Download, unpack or draw a source's files.

    Args:
        source: one source, see `scans.sources.EXPECTED`.
        work: a new or empty folder for what is downloaded and unpacked.
        sha256: of the source's zip, hexadecimal; "" does not check.
        limits: how much the source may hold.
        unsigned: send S3 no credentials, as public buckets want it.
        phantom_images: how many single slices to draw; 0 draws patients.
        phantom_patients: how many patients to draw, with series of slices.
        seed: which phantoms to draw.

    Raises:
        SourceError: the source cannot be had, is not what it should be, or is too large.
    """
    if sha256 and not SHA256_HEX.fullmatch(sha256):
        raise SourceError(f"Expected sha256 as 64 hexadecimal digits. Received: {sha256!r}")
    kind = source_kind(source)
    work.mkdir(parents=True, exist_ok=True)
    if sha256 and (kind in ("phantom", "folder") or (kind == "s3" and source.endswith("/"))):
        raise SourceError(
            f"sha256 checks one zip, and {redacted(source)} is none. Leave sha256 empty."
        )
    unpacked = work / "files"
    if kind == "phantom":
        if phantom_images:
            write_phantoms(unpacked, work / "masks", images=phantom_images, seed=seed)
        else:
            write_phantom_patients(unpacked, work / "masks", patients=phantom_patients, seed=seed)
        return SourceFiles(unpacked, kind, work / "masks")
    if kind == "folder":
        return SourceFiles(Path(source).expanduser(), kind)
    archive = work / "source.zip"
    if kind == "zip":
        archive = Path(source).expanduser()
    elif kind == "drive":
        download_drive_file(source, archive, limits)
    elif kind == "url":
        download_url(source, archive, limits)
    elif source.endswith("/"):
        download_s3(source, unpacked, limits, unsigned=unsigned)
        return SourceFiles(unpacked, kind)
    else:
        download_s3(source, archive, limits, unsigned=unsigned)
    _check_sha256(archive, sha256, redacted(source))
    extract_zip(archive, unpacked, limits, redacted(source))
    if kind != "zip":
        archive.unlink()  # unpacked and downloaded together would need twice the room
    return SourceFiles(unpacked, kind)


def _check_sha256(archive: Path, expected: str, name: str) -> None:
    if not expected:
        return
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected.lower():
        raise SourceError(
            f"{name} is not the file that sha256 names. Expected: {expected.lower()}. Received: "
            f"{found}. Download it again, or correct sha256 if the file was meant to change."
        )
