"""From folders of files to a data set: distinct scans with class, group and split."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from scans.classes import ClassPattern
from scans.distinct import Distinct, distinct_scans, first_reason
from scans.errors import SourceError
from scans.fetch import SourceFiles
from scans.limits import Limits
from scans.local_names import with_note
from scans.manifest import ManifestRow
from scans.patients import PatientHasher
from scans.placement import Scan, identity_warnings
from scans.prepared import Dataset
from scans.series import series_facts
from scans.sharing import sharing, sharing_warnings
from scans.split_names import classes_by_split, differing_names
from scans.splits import Fractions, keep_official_splits, split_by_group


def build_dataset(
    sources: Sequence[SourceFiles],
    *,
    patterns: Sequence[ClassPattern],
    fractions: Fractions,
    seed: int,
    group_distance_bits: int,
    resplit: bool,
    limits: Limits,
    labels: Path | None = None,
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
        limits, labels, hash_patient: see `scans.distinct.distinct_scans`.

    Raises:
        SourceError: no usable scans, fewer than two classes, an empty class, or no possible split.
    """
    found = distinct_scans(
        sources,
        patterns=patterns,
        group_distance_bits=group_distance_bits,
        limits=limits,
        labels=labels,
        hash_patient=hash_patient,
    )
    copies, groups = found.copies, found.groups
    _check_classes(Counter(same[0].label for same in copies), found, labels)
    if not labels:
        _refuse_patients_as_classes(copies)
    classes = [same[0].label for same in copies]
    official = None if resplit else _official_splits(copies)
    scans = [scan for same in copies for scan in same]
    naming = differing_names(classes_by_split(scan.placed for scan in scans), patterns)
    if official:
        if naming:
            raise SourceError(naming)
        split_of, crossing = keep_official_splits(groups, classes, official, fractions, seed)
        crossing = sorted({*crossing, *_copied_across(copies, groups)})
    else:
        split_of, crossing = split_by_group(groups, classes, fractions.of(), seed), []
    rows, origins = _rows(copies, groups, split_of)
    shared = sharing(rows, [{scan.source_name for scan in same} for same in origins.values()])
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
        warnings=[
            *([naming] if naming else []),
            *sharing_warnings(shared),
            *identity_warnings(copies),
        ],
    )


def _check_classes(counts: Mapping[str, int], found: Distinct, labels: Path | None) -> None:
    """Refuse classes that have no scan, and data sets of fewer than two classes."""
    listed = ", ".join(f"'{label}' ({n} scans)" for label, n in sorted(counts.items())) or "none"
    reason = first_reason(found.rejected)
    if found.empty:
        what, where = (
            ("class", f"its lines from {labels.name}") if labels else ("class folder", "the folder")
        )
        raise SourceError(
            f"The {what} '{found.empty[0]}' has no readable scan. Classes found: {listed}. "
            f"Add scans, or remove {where}.{reason}"
        )
    if len(counts) < 2:
        expected, advice = (
            (f"at least two classes in {labels.name}", "Add lines for scans of another class.")
            if labels
            else (
                "at least two class folders with scans",
                "Put the scans of each class in a folder of its name, or name the classes in a "
                "table of labels (labels).",
            )
        )
        raise SourceError(f"Expected {expected}. Found: {listed}. {advice}{reason}")


def _refuse_patients_as_classes(copies: Sequence[Sequence[Scan]]) -> None:
    """Refuse a tree with a folder per patient, as archives export them, without labels."""
    patients = defaultdict(set)
    for same in copies:
        patients[same[0].label].add(same[0].file.identity.patient)
    single = [found.pop() for found in patients.values() if len(found) == 1]
    if len(single) == len(patients) == len(set(single) - {None}):
        raise SourceError(
            f"Each of the {len(patients)} class folders holds one patient, none of them the same, "
            "so the folders seem to be patients. Expected folders of classes, or a table that "
            "says which class each patient is of: labels=labels.csv, with the columns patient and "
            "label."
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
        whose = (identity.patient, identity.series, identity.position_mm, scan.source_name)
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
