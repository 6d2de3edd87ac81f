"""Look into files: is each a scan, which one, and what does its header say."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from model.decoding.decoded import DicomHeader
from model.decoding.errors import ScanError
from model.decoding.scan_file import decode
from scans.fingerprints import perceptual_hash, sha256_hex
from scans.listing import Rejected
from scans.patients import PatientHasher
from scans.progress import progress

RECEIVED = re.compile(r"received (.*?)[;,.(]")  # what a ScanError says came


@dataclass(frozen=True)
class Identity:
    """Whose slice it is, and where in its series; None or '' where the file does not say.

    Attributes:
        patient: keyed hash of issuer and Patient ID, see `scans.patients`.
        patient_of_id: keyed hash of the Patient ID alone, which a table of labels names.
        study, series: their UIDs.
        position_mm: of the slice along its normal, from the origin of the patient's coordinates.
        normal: unit vector across the slice, in the patient's coordinates.
        thickness_mm, kernel, manufacturer: see `model.decoding.decoded.DicomHeader`.
    """

    patient: str | None = None
    patient_of_id: str | None = None
    study: str | None = None
    series: str | None = None
    position_mm: float | None = None
    normal: tuple[float, float, float] | None = None
    thickness_mm: float | None = None
    kernel: str = ""
    manufacturer: str = ""


@dataclass(frozen=True)
class Inspected:
    """A readable scan file.

    Attributes:
        path: of the file, relative to its source's folder.
        sha256: of its bytes, hexadecimal.
        perceptual: 32 bytes, see `scans.fingerprints.perceptual_hash`.
        width, height: as stored, in pixels.
        mode: Pillow's mode, or DICOM's photometric interpretation.
        format: what the bytes are, whatever the name says: PNG, JPEG, …
        identity: of a DICOM slice; empty for other formats.
    """

    path: PurePosixPath
    sha256: str
    perceptual: bytes
    width: int
    height: int
    mode: str
    format: str
    identity: Identity = Identity()


def inspect_files(
    folder: Path, files: Iterable[PurePosixPath], hash_patient: PatientHasher
) -> list[Inspected | Rejected]:
    """Read, decode and fingerprint files, several at a time, with a progress bar.

    Args:
        folder: what `files` are relative to.
        files: the files to look into.
        hash_patient: turns a Patient ID into its keyed hash.

    Returns:
        One entry per file, in order.
    """
    paths = list(files)
    inspect = partial(_inspect, folder, hash_patient=hash_patient)
    results = _mapped(inspect, paths)
    return list(progress(results, "Reading scans", "file", len(paths)))


def _mapped(
    inspect: partial[Inspected | Rejected], paths: Sequence[PurePosixPath]
) -> Iterator[Inspected | Rejected]:
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        yield from pool.map(inspect, paths)


def _inspect(
    folder: Path, path: PurePosixPath, *, hash_patient: PatientHasher
) -> Inspected | Rejected:
    try:
        data = (folder / path).read_bytes()
    except OSError as e:
        return Rejected(path, f"cannot be read: {e.strerror}", "cannot be read")
    if not data:
        return Rejected(path, "the file is empty", "an empty file")
    try:
        scan = decode(data)
    except ScanError as e:
        return Rejected(path, str(e), _kind(str(e)))
    digest, perceptual = sha256_hex(data), perceptual_hash(scan.grey)
    identity = identity_of(scan.header, hash_patient) if scan.header else Identity()
    size = (scan.width, scan.height)
    return Inspected(path, digest, perceptual, *size, scan.mode, scan.format, identity)


def _kind(sentence: str) -> str:
    """Return what a decoder's sentence says it received, without the numbers of one file."""
    match = RECEIVED.search(sentence)
    return re.sub(r"\d[\d,. x]*", "N ", match[1]).strip() if match else "not decodable"


def identity_of(header: DicomHeader, hash_patient: PatientHasher) -> Identity:
    """Return what a header says of whose slice it is and where in its series."""
    normal = position = None
    if header.orientation is not None:
        across = np.cross(header.orientation[:3], header.orientation[3:])
        length = float(np.linalg.norm(across))
        if length > 0:
            x, y, z = (float(value) / length for value in across)
            # A series is read from the feet up, whichever way its rows run.
            normal = (x, y, z) if z >= 0 else (-x, -y, -z)
            if header.position_mm is not None:
                position = round(float(np.dot(normal, header.position_mm)), 3)
    return Identity(
        patient=hash_patient(header.patient_id, header.patient_id_issuer),
        patient_of_id=hash_patient(header.patient_id),
        study=header.study_uid or None,
        series=header.series_uid or None,
        position_mm=position,
        normal=normal,
        thickness_mm=header.slice_thickness_mm,
        kernel=header.kernel,
        manufacturer=header.manufacturer,
    )
