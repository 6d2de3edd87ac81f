"""The distinct images of some sources, with class and group, before anything is split."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from scans.classes import ClassPattern, empty_classes, quoted
from scans.errors import SourceError
from scans.fetch import SourceFiles
from scans.fingerprints import HASH_BITS
from scans.grouping import group_names
from scans.inspected import Inspected
from scans.inspection import inspect_files
from scans.label_table import read_label_table
from scans.labelling import LabelTable
from scans.limits import Limits
from scans.listing import Listing, Rejected, list_files
from scans.patients import PatientHasher, patient_hasher
from scans.placement import Scan, placed_by_folder, placed_by_table, shown_path
from scans.series import several_directions


@dataclass(frozen=True)
class Distinct:
    """What sources hold before anything is split.

    Attributes:
        copies: the files of each distinct image, the one that stands for them first.
        groups: of each distinct image: patients and near-duplicates.
        rejected: files that cannot be used, by path.
        files: number of files seen, rejected ones included.
        passed_over: system files that were not looked at.
        empty: classes without a readable scan.
    """

    copies: list[list[Scan]]
    groups: list[str]
    rejected: list[Rejected]
    files: int
    passed_over: int
    empty: list[str]


def distinct_scans(
    sources: Sequence[SourceFiles],
    *,
    patterns: Sequence[ClassPattern],
    group_distance_bits: int,
    limits: Limits,
    labels: Path | None = None,
    hash_patient: PatientHasher | None = None,
) -> Distinct:
    """Inspect the sources' files, count copies once and group.

    Args:
        sources: the folders with the files.
        patterns: how classes are renamed or merged.
        group_distance_bits: largest Hamming distance of near-duplicates, 0 to 256.
        limits: how much each folder may hold.
        labels: a table of labels, instead of class folders.
        hash_patient: turns a Patient ID into its keyed hash; by default with the salt of the
            working directory.

    Raises:
        SourceError: no usable scans, or a table of labels that does not fit them.
    """
    if not 0 <= group_distance_bits <= HASH_BITS:
        raise SourceError(
            f"Expected group_distance_bits from 0 to {HASH_BITS}. Received: {group_distance_bits}"
        )
    hash_patient = hash_patient or patient_hasher()
    lines = read_label_table(labels) if labels else []  # a bad table is found before hours of work
    listings = [list_files(source.folder, limits) for source in sources]
    readable, refused = _inspected(sources, listings, hash_patient)
    files = sum(len(listing.files) + len(listing.rejected) for listing in listings)
    rejected = [
        replace(other, path=shown_path(source, other.path))
        for source, own in zip(sources, refused, strict=True)
        for other in own
    ]
    if not any(readable):
        raise SourceError(_no_scans_message(files, rejected))
    if labels:
        names = [source.name for source in sources if source.name]
        table = LabelTable(labels.name, lines, names, hash_patient)
        scans, unnamed = placed_by_table(sources, readable, refused, patterns, table)
        classes = set(table.classes(patterns).values())
    else:
        scans, unnamed = placed_by_folder(sources, readable, patterns), []
        classes = {scan.label for scan in scans if scan.label}
    copies, unlabelled = _distinct(scans)
    copies, unordered = _of_one_orientation(copies)
    found = {same[0].label for same in copies}
    empty = [] if labels else _empty_classes(listings, readable, patterns, found)
    return Distinct(
        copies=copies,
        groups=_groups(copies, group_distance_bits),
        rejected=sorted([*rejected, *unnamed, *unlabelled, *unordered], key=lambda r: r.path),
        files=files,
        passed_over=sum(listing.passed_over for listing in listings),
        empty=[*empty, *sorted(classes - found)],
    )


def _inspected(
    sources: Sequence[SourceFiles], listings: Sequence[Listing], hash_patient: PatientHasher
) -> tuple[list[list[Inspected]], list[list[Rejected]]]:
    """Return the readable files of each source, and its rejected ones."""
    readable, rejected = [], []
    for source, listing in zip(sources, listings, strict=True):
        results = inspect_files(source.folder, listing.files, hash_patient)
        readable.append([r for r in results if isinstance(r, Inspected)])
        rejected.append([*listing.rejected, *(r for r in results if isinstance(r, Rejected))])
    return readable, rejected


def _empty_classes(
    listings: Sequence[Listing],
    readable: Sequence[Sequence[Inspected]],
    patterns: Sequence[ClassPattern],
    found: set[str],
) -> list[str]:
    """Return names of folders that would be classes if they had a readable scan."""
    return [
        name
        for listing, files in zip(listings, readable, strict=True)
        for name in empty_classes(listing.folders, [f.path for f in files], patterns, found)
    ]


def _distinct(scans: Sequence[Scan]) -> tuple[list[list[Scan]], list[Rejected]]:
    """Return the copies of each distinct image, by digest, and files that cannot be labelled.

    Bytes found under two classes are rejected in both: which label is wrong cannot be known, and
    keeping either would teach or score a mistake.
    """
    outside = "lies in no class folder"
    rejected = [Rejected(scan.shown, outside, outside) for scan in scans if not scan.label]
    by_digest: dict[str, list[Scan]] = defaultdict(list)
    for scan in scans:
        if scan.label:
            by_digest[scan.file.sha256].append(scan)
    copies = []
    for digest in sorted(by_digest):
        same = sorted(by_digest[digest], key=lambda scan: scan.shown)
        labels = {scan.label for scan in same}
        if len(labels) == 1:
            copies.append(same)
        else:
            reason = f"the same image lies in the classes {quoted(labels)}; keep it in one"
            kind = "the same image in several classes"
            rejected += [Rejected(scan.shown, reason, kind) for scan in same]
    return copies, rejected


def _of_one_orientation(copies: list[list[Scan]]) -> tuple[list[list[Scan]], list[Rejected]]:
    """Leave out series whose slices point in several directions: they have no order."""
    normals: dict[tuple[str | None, str], list[tuple[float, float, float]]] = defaultdict(list)
    for same in copies:
        identity = same[0].file.identity
        if identity.series and identity.normal:
            normals[same[0].source_name, identity.series].append(identity.normal)
    mixed = {key for key, found in normals.items() if several_directions(found)}
    kind = "a series of several orientations"
    reason = f"belongs to {kind}, which has no order; export each orientation as its own series"
    kept, rejected = [], []
    for same in copies:
        if (same[0].source_name, same[0].file.identity.series) in mixed:
            rejected += [Rejected(scan.shown, reason, kind) for scan in same]
        else:
            kept.append(same)
    return kept, rejected


def _no_scans_message(files: int, rejected: Sequence[Rejected]) -> str:
    return (
        "Expected class folders with scans in them (PNG, JPEG, BMP, TIFF, WebP, DICOM). Found: "
        f"{files} files, no readable scan among them.{first_reason(rejected)}"
    )


def first_reason(rejected: Sequence[Rejected]) -> str:
    """Return a sentence on the rejected files, '' without any."""
    if not rejected:
        return ""
    first = rejected[0]
    return f" {len(rejected)} files were rejected, the first, {first.path.name}: {first.reason}"


def _groups(copies: Sequence[Sequence[Scan]], distance_bits: int) -> list[str]:
    """Return the group of each distinct image: patients, studies, series and near-duplicates.

    A study or series without a Patient ID still is one patient's. A picture that a table gives to
    several patients joins them, since each of them has it.
    """
    files = [same[0].file for same in copies]
    identities = [(place, s.file.identity) for place, same in enumerate(copies) for s in same]
    return group_names(
        [file.sha256 for file in files],
        [file.perceptual for file in files],
        distance_bits,
        (
            [(place, identity.patient) for place, identity in identities],
            [(place, identity.study) for place, identity in identities],
            [(place, identity.series) for place, identity in identities],
        ),
    )
