"""A set of scans from elsewhere: what of it the model has not seen, and what its classes mean."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scans.classes import parse_class_patterns
from scans.distinct import distinct_scans
from scans.fetch import fetch_sources
from scans.fingerprints import near_duplicate_groups
from scans.limits import Limits
from scans.placement import Scan
from steps.errors import StageError
from steps.training.training_scans import TrainingScans

DISEASE = "disease"  # stands for every disease, so that other ones than the model's can be used
LEFT_OUT = ("same bytes", "near-duplicate", "same patient")


@dataclasses.dataclass(frozen=True)
class ExternalScan:
    """One distinct image of an external set."""

    path: Path
    label: str
    sha256: str
    perceptual: bytes  # 256-bit hash, 32 bytes
    group: str  # patient or near-duplicates within the set
    patient: str  # keyed hash, "" where unknown
    series: tuple[str | None, str] | None = None  # name of its source, and of the series in it
    position_mm: float | None = None  # along the normal of the slice


@dataclasses.dataclass(frozen=True)
class ExternalSet:
    """The distinct images of an external set, none split off, and files that cannot be used."""

    scans: list[ExternalScan]
    rejected: int


def read_external_set(
    source: str,
    work: Path,
    class_patterns: str,
    group_distance_bits: int,
    limits: Limits,
    labels: str = "",
) -> ExternalSet:
    """Fetch a source's files, check them and group them; nothing is split.

    Args:
        source: see `scans.sources.EXPECTED`; several as `name=where;name=where`.
        work: a new or empty folder for what is downloaded and unpacked.
        class_patterns: `glob=class;glob=class`, see `scans.classes.parse_class_patterns`.
        group_distance_bits: largest Hamming distance of near-duplicates.
        limits: how much the source may hold.
        labels: path of a table of labels, or "" for class folders.

    Raises:
        SourceError: the source cannot be used.
    """
    patterns = parse_class_patterns(class_patterns)
    fetched = fetch_sources(source, work, limits=limits)
    found = distinct_scans(
        fetched,
        patterns=patterns,
        group_distance_bits=group_distance_bits,
        limits=limits,
        labels=Path(labels).expanduser() if labels else None,
    )
    scans = [
        ExternalScan(
            path=same[0].source.folder / same[0].file.path,
            label=same[0].label,
            sha256=same[0].file.sha256,
            perceptual=same[0].file.perceptual,
            group=group,
            patient=same[0].file.identity.patient or "",
            series=_series(same[0]),
            position_mm=same[0].file.identity.position_mm,
        )
        for same, group in zip(found.copies, found.groups, strict=True)
    ]
    return ExternalSet(scans, len(found.rejected))


def _series(scan: Scan) -> tuple[str | None, str] | None:
    name = scan.file.identity.series
    return (scan.source_name, name) if name else None


def diseased(
    scans: Sequence[ExternalScan], classes: Sequence[str], healthy: Sequence[str]
) -> NDArray[np.bool_]:
    """Say of each scan whether it shows a disease.

    Args:
        scans: of the external set.
        classes: the model's.
        healthy: those of them that are no disease.

    Returns:
        (n,).

    Raises:
        StageError: a class is neither the model's nor `disease`, or the model has no healthy one.
    """
    if not healthy:
        raise StageError(
            f"The model's classes are {', '.join(classes)}, none of which is healthy, so there is "
            "no disease to score. Expected a model with a class such as normal (healthy_classes)."
        )
    known = {name.casefold(): name for name in (*classes, DISEASE)}
    unknown = sorted({scan.label for scan in scans if scan.label.casefold() not in known})
    if unknown:
        mapped = ";".join(f"{name}={DISEASE}" for name in unknown)
        raise StageError(
            f"The model does not know the class{'es' if len(unknown) > 1 else ''} "
            f"{', '.join(unknown)}. Expected {', '.join(classes)} or {DISEASE}. Say what each one "
            f'means with class_patterns, for example "{mapped}".'
        )
    return np.array([known[scan.label.casefold()] not in healthy for scan in scans], dtype=bool)


def unseen(
    scans: Sequence[ExternalScan], seen: TrainingScans
) -> tuple[list[ExternalScan], dict[str, int]]:
    """Leave out what the model's own data set shares with an external set.

    A near-duplicate is left out with all that hang together with it; scans of all splits count as
    seen, since none of them is from elsewhere.

    Args:
        scans: of the external set.
        seen: the model's own.

    Returns:
        The scans that are left, in order, and how many were left out by reason (LEFT_OUT).

    Raises:
        StageError: none is left.
    """
    hashes = [scan.perceptual for scan in scans] + [row.tobytes() for row in seen.perceptual]
    joined = near_duplicate_groups(hashes, seen.group_distance_bits)
    theirs = set(joined[len(scans) :])
    digests, patients = set(seen.sha256.tolist()), set(seen.patient.tolist()) - {""}
    left_out: Counter[str] = Counter()
    kept = []
    for scan, group in zip(scans, joined, strict=False):
        if scan.sha256 in digests:
            left_out["same bytes"] += 1
        elif group in theirs:
            left_out["near-duplicate"] += 1
        elif scan.patient in patients:
            left_out["same patient"] += 1
        else:
            kept.append(scan)
    if not kept:
        raise StageError(
            f"None of the {len(scans)} scans is left: all are in the data set that the model was "
            "made from, or resemble one of it. Expected scans from elsewhere; give another source."
        )
    return kept, {reason: left_out[reason] for reason in LEFT_OUT}
