"""From folders of files to a data set: distinct scans with class, group and split."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from scans.classes import (
    ClassPattern,
    Placed,
    empty_classes,
    place_files,
    quoted,
)
from scans.errors import SourceError
from scans.fetch import Fetched
from scans.fingerprints import HASH_BITS
from scans.grouping import group_names
from scans.inspection import Inspected, inspect_files
from scans.limits import Limits
from scans.listing import Listing, Rejected, list_files
from scans.local_names import with_note
from scans.manifest import ManifestRow
from scans.patients import PatientHasher, patient_hasher
from scans.prepared import Dataset
from scans.series import series_facts
from scans.sharing import sharing, sharing_warnings
from scans.splits import Fractions, keep_official_splits, split_by_group


@dataclass(frozen=True)
class Scan:
    """A readable scan and where it lies.

    Attributes:
        file: what was found in it.
        source: where it comes from.
        placed: its class and official split.
    """

    file: Inspected
    source: Fetched
    placed: Placed

    @property
    def label(self) -> str:
        """The class; '' outside class folders."""
        return self.placed.label or ""

    @property
    def shown(self) -> PurePosixPath:
        """The path that messages and tables show."""
        return shown_path(self.source, self.file.path)


def shown_path(source: Fetched, path: PurePosixPath) -> PurePosixPath:
    """Return a path as messages and tables show it: below the source's name, if it has one."""
    return PurePosixPath(source.name, path) if source.name else path


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


def build_dataset(
    sources: Sequence[Fetched],
    *,
    patterns: Sequence[ClassPattern],
    fractions: Fractions,
    seed: int,
    group_distance_bits: int,
    resplit: bool,
    limits: Limits,
    hash_patient: PatientHasher | None = None,
) -> Dataset:
    """Inspect the sources' files, count copies once, group and split by group.

    Args:
        sources: the folders with the files.
        patterns: how class folders are renamed or merged.
        fractions: shares of the splits.
        seed: of the split.
        group_distance_bits: largest Hamming distance of near-duplicates, 0 to 256.
        resplit: split anew even where the source has train, valid and test folders.
        limits: how much each folder may hold.
        hash_patient: turns a Patient ID into its keyed hash; by default with the salt of the
            working directory.

    Raises:
        SourceError: no usable scans, fewer than two classes, an empty class, or no possible split.
    """
    found = distinct_scans(
        sources,
        patterns=patterns,
        group_distance_bits=group_distance_bits,
        limits=limits,
        hash_patient=hash_patient,
    )
    copies, groups = found.copies, found.groups
    _check_classes(Counter(same[0].label for same in copies), found.empty, found.rejected)
    labels = [same[0].label for same in copies]
    official = None if resplit else _official_splits(copies)
    if official:
        split_of, crossing = keep_official_splits(groups, labels, official, fractions, seed)
        crossing = sorted({*crossing, *_copied_across(copies, groups)})
    else:
        split_of, crossing = split_by_group(groups, labels, fractions.of(), seed), []
    rows, origins = _rows(copies, groups, split_of)
    shared = sharing(rows, [{scan.source.name for scan in same} for same in origins.values()])
    first = {path: same[0] for path, same in origins.items()}
    return Dataset(
        rows=rows,
        origin={path: s.source.folder / s.file.path for path, s in first.items()},
        rejected=found.rejected,
        files=found.files,
        passed_over=found.passed_over,
        official_splits=bool(official),
        crossing_groups=crossing,
        series=series_facts(rows, {path: _acquisition(s) for path, s in first.items()}),
        sharing=shared,
        warnings=sharing_warnings(shared),
    )


def distinct_scans(
    sources: Sequence[Fetched],
    *,
    patterns: Sequence[ClassPattern],
    group_distance_bits: int,
    limits: Limits,
    hash_patient: PatientHasher | None = None,
) -> Distinct:
    """Inspect the sources' files, count copies once and group; arguments as for `build_dataset`.

    Raises:
        SourceError: no usable scans.
    """
    if not 0 <= group_distance_bits <= HASH_BITS:
        raise SourceError(
            f"Expected group_distance_bits from 0 to {HASH_BITS}. Received: {group_distance_bits}"
        )
    hash_patient = hash_patient or patient_hasher()
    listings = [list_files(source.folder, limits) for source in sources]
    readable, rejected = _inspected(sources, listings, hash_patient)
    files = sum(len(listing.files) + len(listing.rejected) for listing in listings)
    if not any(readable):
        raise SourceError(_no_scans_message(files, rejected))
    scans = _placed(sources, readable, patterns)
    copies, unusable = _distinct(scans)
    labels = {same[0].label for same in copies}
    empty = [
        name
        for listing, found in zip(listings, readable, strict=True)
        for name in empty_classes(listing.folders, [f.path for f in found], patterns, labels)
    ]
    lost = {scan.label for scan in scans if scan.label} - labels
    return Distinct(
        copies=copies,
        groups=_groups(copies, group_distance_bits),
        rejected=sorted([*rejected, *unusable], key=lambda r: r.path),
        files=files,
        passed_over=sum(listing.passed_over for listing in listings),
        empty=[*empty, *sorted(lost)],
    )


def _inspected(
    sources: Sequence[Fetched], listings: Sequence[Listing], hash_patient: PatientHasher
) -> tuple[list[list[Inspected]], list[Rejected]]:
    """Return the readable files of each source, and every rejected file."""
    readable, rejected = [], []
    for source, listing in zip(sources, listings, strict=True):
        results = inspect_files(source.folder, listing.files, hash_patient)
        readable.append([r for r in results if isinstance(r, Inspected)])
        for refused in [*listing.rejected, *(r for r in results if isinstance(r, Rejected))]:
            path = shown_path(source, refused.path)
            rejected.append(Rejected(path, refused.reason, refused.kind))
    return readable, rejected


def _placed(
    sources: Sequence[Fetched],
    readable: Sequence[Sequence[Inspected]],
    patterns: Sequence[ClassPattern],
) -> list[Scan]:
    """Find class and official split of every readable file."""
    placed = place_files([[file.path for file in files] for files in readable], patterns)
    return [
        Scan(file, source, where[file.path])
        for source, files, where in zip(sources, readable, placed, strict=True)
        for file in files
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


def _check_classes(
    counts: Mapping[str, int], without: Sequence[str], rejected: Sequence[Rejected]
) -> None:
    """Refuse classes that have no scan, and data sets of fewer than two classes."""
    found = ", ".join(f"'{label}' ({n} scans)" for label, n in sorted(counts.items())) or "none"
    if without:
        raise SourceError(
            f"The class folder '{without[0]}' has no readable scan. Classes found: {found}. "
            f"Add scans, or remove the folder.{_first_reason(rejected)}"
        )
    if len(counts) < 2:
        raise SourceError(
            f"Expected at least two class folders with scans. Found: {found}. "
            f"Put the scans of each class in a folder of its name.{_first_reason(rejected)}"
        )


def _no_scans_message(files: int, rejected: Sequence[Rejected]) -> str:
    return (
        "Expected class folders with scans in them (PNG, JPEG, BMP, TIFF, WebP, DICOM). Found: "
        f"{files} files, no readable scan among them.{_first_reason(rejected)}"
    )


def _first_reason(rejected: Sequence[Rejected]) -> str:
    if not rejected:
        return ""
    first = rejected[0]
    return f" {len(rejected)} files were rejected, the first, {first.path.name}: {first.reason}"


def _groups(copies: Sequence[Sequence[Scan]], distance_bits: int) -> list[str]:
    """Return the group of each distinct image: patients, studies, series and near-duplicates.

    A study or series without a Patient ID still is one patient's.
    """
    files = [same[0].file for same in copies]
    identities = [file.identity for file in files]
    return group_names(
        [file.sha256 for file in files],
        [file.perceptual for file in files],
        distance_bits,
        (
            [identity.patient for identity in identities],
            [identity.study for identity in identities],
            [identity.series for identity in identities],
        ),
    )


def _official_splits(copies: Sequence[Sequence[Scan]]) -> list[str] | None:
    """Return each distinct scan's split as its folders name it, or None where they name none."""
    splits = [[scan.placed.split for scan in same] for same in copies]
    named = {split for same in splits for split in same if split}
    if not named:
        return None
    for same, of_same in zip(copies, splits, strict=True):
        if None in of_same:
            raise SourceError(
                f"Some scans lie under {', '.join(sorted(named))} folders and some, such as "
                f"{same[0].shown}, do not. Move them, or set resplit: true to split all anew."
            )
    return [min(filter(None, same), key=("train", "validation", "test").index) for same in splits]


def _copied_across(copies: Sequence[Sequence[Scan]], groups: Sequence[str]) -> set[str]:
    """Return the groups of images that lie byte for byte in two official splits."""
    return {
        group
        for same, group in zip(copies, groups, strict=True)
        if len({scan.placed.split for scan in same}) > 1
    }


def _rows(
    copies: Sequence[list[Scan]], groups: Sequence[str], split_of: Mapping[str, str]
) -> tuple[list[ManifestRow], dict[str, list[Scan]]]:
    """Return the manifest, and the copies of each row's image by the row's path."""
    rows, origins = [], {}
    taken: set[str] = set()  # without case, as some file systems compare names
    for same, group in zip(copies, groups, strict=True):
        scan, file = same[0], same[0].file
        path = PurePosixPath("scans", scan.label, file.path.name)
        if str(path).casefold() in taken:
            path = with_note(path, f"-{file.sha256[:12]}")
        taken.add(str(path).casefold())
        origins[str(path)] = same
        place = (str(path), scan.label, file.sha256, len(same), group, split_of[group])
        picture = (file.width, file.height, file.mode, file.format)
        identity = file.identity
        whose = (identity.patient, identity.series, identity.position_mm, scan.source.name)
        rows.append(ManifestRow(*place, *picture, *whose))
    rows.sort(key=_in_order)
    return rows, {row.path: origins[row.path] for row in rows}


def _in_order(row: ManifestRow) -> tuple[str, str, float, str]:
    """Order a manifest: by class, then series, position and path."""
    position = float("-inf") if row.position_mm is None else row.position_mm
    return (row.label, row.series or "", position, row.path)


def _acquisition(scan: Scan) -> tuple[str, str, str]:
    """Return thickness, kernel and manufacturer as `series.csv` shows them."""
    identity = scan.file.identity
    thickness = "" if identity.thickness_mm is None else f"{identity.thickness_mm:g}"
    return thickness, identity.kernel, identity.manufacturer
