"""What was found in a readable scan file."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TypeVar

from scans.identity import UNKNOWN, Identity
from scans.listing import Rejected

T = TypeVar("T", bound=Hashable)


@dataclass(frozen=True, slots=True)
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


def with_shared_values(
    result: Inspected | Rejected, path: PurePosixPath, known: dict[Hashable, Hashable]
) -> Inspected | Rejected:
    """Return a result that shares equal values with others: what is kept of 10^5 files adds up.

    Args:
        result: as it came from a thread or a process.
        path: the caller's own object for the result's path.
        known: values of earlier results; gains this one's.
    """

    def shared(value: T) -> T:
        # The type is part of the key, since 1 and 1.0 are equal.
        return known.setdefault((type(value), value), value)  # type: ignore[return-value]

    own = result.identity
    identity = UNKNOWN if own == UNKNOWN else replace(
        own, patient=shared(own.patient), patient_of_id=shared(own.patient_of_id),
        study=shared(own.study), series=shared(own.series), normal=shared(own.normal),
        thickness_mm=shared(own.thickness_mm), kernel=shared(own.kernel),
        manufacturer=shared(own.manufacturer),
    )  # fmt: skip
    if isinstance(result, Rejected):
        return replace(result, path=path, identity=identity)
    return replace(
        result, path=path, identity=identity, width=shared(result.width),
        height=shared(result.height), mode=shared(result.mode), format=shared(result.format),
    )  # fmt: skip
