"""Look into files: is each a scan, which one, and what does its header say."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from joblib import Parallel, delayed
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import TerminatedWorkerError
from pydicom.uid import UID

from model.decoding.errors import ScanError
from model.decoding.scan_file import decode, read_header
from scans.errors import SourceError
from scans.fingerprints import perceptual_hash, sha256_hex
from scans.identity import UNKNOWN, Identity, identity_of
from scans.listing import Rejected
from scans.patients import PatientHasher
from scans.progress import progress

RECEIVED = re.compile(r"received (.*?)(?:[;,(]|\.(?!\d)|$)")  # what a ScanError says came
STARTS = {"one whose": "a slice whose", "one of": "a picture of", "one ": "a file "}
DICOMDIR = "a DICOMDIR, the index of a tree of DICOM files"  # PS3.10: it is always called so
NO_PIXELS = "without pixel data"
FILES_FOR_PROCESSES = 1000  # starting processes takes as long as reading some hundred files
FILES_A_TASK = 16


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
    identity: Identity = UNKNOWN


def inspect_files(
    folder: Path, files: Sequence[PurePosixPath], hash_patient: PatientHasher
) -> list[Inspected | Rejected]:
    """Read, decode and fingerprint files on all cores, with a progress bar.

    Args:
        folder: what `files` are relative to.
        files: the files to look into.
        hash_patient: turns a Patient ID into its keyed hash.

    Returns:
        One entry per file, in order.

    Raises:
        SourceError: the patients' salt cannot be read, or the system ended a process.
    """
    inspect = partial(_inspect, folder, hash_patient=hash_patient)
    # Reading headers holds Python's lock, so many files want processes; few are not worth it.
    mapped = _in_processes if len(files) >= FILES_FOR_PROCESSES else _in_threads
    return list(progress(mapped(inspect, files), "Reading scans", "file", len(files)))


Inspect = Callable[[PurePosixPath], Inspected | Rejected]


def _in_threads(inspect: Inspect, paths: Sequence[PurePosixPath]) -> Iterator[Inspected | Rejected]:
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        yield from pool.map(inspect, paths)


def _in_processes(
    inspect: Inspect, paths: Sequence[PurePosixPath]
) -> Iterator[Inspected | Rejected]:
    workers = Parallel(n_jobs=os.cpu_count(), return_as="generator", batch_size=FILES_A_TASK)
    try:
        yield from workers(delayed(inspect)(path) for path in paths)
    except TerminatedWorkerError as e:
        raise SourceError(
            "A process that reads scans was ended by the system, as happens when memory is short. "
            "Free some memory and run again."
        ) from e
    finally:
        get_reusable_executor().shutdown(wait=True, kill_workers=True)


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
        return _rejected(path, data, str(e), hash_patient)
    digest, perceptual = sha256_hex(data), perceptual_hash(scan.grey)
    identity = identity_of(scan.header, hash_patient) if scan.header else UNKNOWN
    size = (scan.width, scan.height)
    return Inspected(path, digest, perceptual, *size, scan.mode, scan.format, identity)


def _rejected(
    path: PurePosixPath, data: bytes, reason: str, hash_patient: PatientHasher
) -> Rejected:
    """Return why a file was rejected, and whose it is: a table of labels may name it."""
    if path.name.casefold() == "dicomdir" and NO_PIXELS in reason:
        return Rejected(path, DICOMDIR, DICOMDIR)
    try:
        header = read_header(data)
    except ScanError:
        header = None
    kind = _kind(reason)
    if header is None:
        return Rejected(path, reason, kind)
    if NO_PIXELS in reason and header.sop_class_uid:
        kind = f"{UID(header.sop_class_uid).name.removesuffix(' Storage')} without pixel data"
    return Rejected(path, reason, kind, identity_of(header, hash_patient))


def _kind(sentence: str) -> str:
    """Return what a decoder's sentence says it received, without the numbers of one file."""
    match = RECEIVED.search(sentence)
    if match is None:
        return "not decodable"
    words = re.sub(r"\d[\d,.]*", "N", match[1]).removeprefix("N bytes of ").strip()
    start = next((start for start in STARTS if words.startswith(start)), "")
    return STARTS.get(start, "") + words.removeprefix(start)
