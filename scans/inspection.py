"""Look into files: is each a scan, which one, and what does its header say."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath

from joblib import Parallel, delayed
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import TerminatedWorkerError
from pydicom.config import IGNORE
from pydicom.uid import UID

from model.decoding.errors import ScanError
from model.decoding.scan_file import decode, read_header
from scans.errors import SourceError, changed
from scans.fingerprints import perceptual_hash, sha256_hex
from scans.identity import UNKNOWN, identity_of
from scans.inspected import Inspected, with_shared_values
from scans.listing import Rejected, Seen
from scans.patients import PatientHasher
from scans.progress import progress

RECEIVED = re.compile(r"received (.*?)(?:[;,(]|\.(?!\d)|$)")  # what a ScanError says came
STARTS = {"one whose": "a slice whose", "one of": "a picture of", "one ": "a file "}
DICOMDIR = "a DICOMDIR, the index of a tree of DICOM files"  # PS3.10: it is always called so
DIRECTORY_CLASS = b"1.2.840.10008.1.3.10"  # Media Storage Directory, in the file's meta header
META_BYTES = 1024  # more than the preamble and the classes named after it take
NO_PIXELS = "without pixel data"
OTHER_MODALITY = "another modality"
FILES_FOR_PROCESSES = 1000  # starting processes takes as long as reading some hundred files
FILES_A_TASK = 16


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
        SourceError: a file went away, the patients' salt cannot be read, or the system ended a
            process.
    """
    inspect = partial(_inspect, folder, hash_patient=hash_patient)
    # Reading headers holds Python's lock, so many files want processes; few are not worth it.
    mapped = _in_processes if len(files) >= FILES_FOR_PROCESSES else _in_threads
    found = progress(mapped(inspect, files), "Reading scans", "file", len(files))
    known: dict[Hashable, Hashable] = {}
    return [with_shared_values(r, path, known) for path, r in zip(files, found, strict=True)]


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
        with (folder / path).open("rb") as file:
            facts = os.fstat(file.fileno())
            data = file.read()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as e:
        raise changed(folder / path) from e
    except OSError as e:
        return Rejected(path, f"cannot be read: {e.strerror}", "cannot be read")
    seen = Seen(folder / path, facts.st_size, facts.st_mtime_ns)
    if not data:
        return Rejected(path, "the file is empty", "an empty file", seen=seen)
    try:
        scan = decode(data)
    except ScanError as e:
        return replace(_rejected(path, data, str(e), hash_patient), seen=seen)
    digest, perceptual = sha256_hex(data), perceptual_hash(scan.grey)
    identity = identity_of(scan.header, hash_patient) if scan.header else UNKNOWN
    size = (scan.width, scan.height)
    return Inspected(path, digest, perceptual, *size, scan.mode, scan.format, identity)


def _rejected(
    path: PurePosixPath, data: bytes, reason: str, hash_patient: PatientHasher
) -> Rejected:
    """Return why a file was rejected, and whose it is: a table of labels may name it."""
    directory = path.name.casefold() == "dicomdir" or DIRECTORY_CLASS in data[:META_BYTES]
    if directory and NO_PIXELS in reason:
        return Rejected(path, DICOMDIR, DICOMDIR)
    try:
        header = read_header(data)
    except ScanError:
        header = None
    kind = _kind(reason)
    if header is None:
        return Rejected(path, reason, kind)
    object_name = _object_name(header.sop_class_uid)
    if object_name and NO_PIXELS in reason:
        kind = f"{object_name} without pixel data"
    elif object_name and kind == OTHER_MODALITY:
        kind = f"{OTHER_MODALITY}: {object_name}"
    return Rejected(path, reason, kind, identity_of(header, hash_patient))


def _object_name(sop_class_uid: str) -> str:
    """Return the standard's name of a kind of object, '' where it has none."""
    # pydicom's warnings quote what is no UID; such a text could be anything.
    name = UID(sop_class_uid, validation_mode=IGNORE).name if sop_class_uid else ""
    return "" if name == sop_class_uid else name.removesuffix(" Storage")


def _kind(sentence: str) -> str:
    """Return what a decoder's sentence says it received, without the numbers of one file."""
    match = RECEIVED.search(sentence)
    if match is None:
        return "not decodable"
    words = re.sub(r"\d[\d,.]*", "N", match[1]).removeprefix("N bytes of ").strip()
    start = next((start for start in STARTS if words.startswith(start)), "")
    return STARTS.get(start, "") + words.removeprefix(start)
