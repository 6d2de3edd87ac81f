"""From a folder of files to a data set: distinct scans with class, group and split."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from scans.classes import ClassPattern, Placed, empty_classes, place_files, quoted
from scans.errors import SourceError
from scans.fingerprints import HASH_BITS, near_duplicate_groups
from scans.inspection import Inspected, Rejected, inspect_files, list_files
from scans.limits import Limits
from scans.manifest import ManifestRow
from scans.prepared import Dataset
from scans.splits import Fractions, keep_official_splits, split_by_group


def build_dataset(
    folder: Path,
    *,
    patterns: Sequence[ClassPattern],
    fractions: Fractions,
    seed: int,
    group_distance_bits: int,
    resplit: bool,
    limits: Limits,
) -> Dataset:
    """Inspect a folder's files, count copies once, group near-duplicates and split by group.

    Args:
        folder: the source's files.
        patterns: how class folders are renamed or merged.
        fractions: shares of the splits.
        seed: of the split.
        group_distance_bits: largest Hamming distance of near-duplicates, 0 to 256.
        resplit: split anew even where the source has train, valid and test folders.
        limits: how much the folder may hold.

    Raises:
        SourceError: no usable scans, fewer than two classes, an empty class, or no possible split.
    """
    if not 0 <= group_distance_bits <= HASH_BITS:
        raise SourceError(
            f"Expected group_distance_bits from 0 to {HASH_BITS}. Received: {group_distance_bits}"
        )
    listing = list_files(folder, limits)
    results = inspect_files(folder, listing.files)
    rejected = listing.rejected + [r for r in results if isinstance(r, Rejected)]
    readable = [r for r in results if isinstance(r, Inspected)]
    if not readable:
        raise SourceError(_no_scans_message(len(listing.files), rejected))
    paths = [r.path for r in readable]
    placed = place_files(paths, patterns)
    copies, unusable = _distinct(readable, placed)
    rejected += unusable
    _check_classes(copies, placed, empty_classes(listing.folders, paths, patterns), rejected)
    first = [group[0] for group in copies]
    groups = _group_names(first, group_distance_bits)
    labels = [str(placed[scan.path].label) for scan in first]
    official = None if resplit else _official_splits(copies, placed)
    if official:
        split_of, crossing = keep_official_splits(groups, labels, official, fractions, seed)
        crossing = sorted({*crossing, *_copied_across(copies, groups, placed)})
    else:
        split_of, crossing = split_by_group(groups, labels, fractions.of(), seed), []
    rows, origin = _rows(copies, labels, groups, split_of)
    files = len(listing.files) + len(listing.rejected)
    rejected.sort(key=lambda r: r.path)
    return Dataset(folder, rows, origin, rejected, files, bool(official), crossing)


def _distinct(
    readable: Sequence[Inspected], placed: dict[PurePosixPath, Placed]
) -> tuple[list[list[Inspected]], list[Rejected]]:
    """Return the copies of each distinct image, by digest, and files that cannot be labelled.

    Bytes found under two classes are rejected in both: which label is wrong cannot be known, and
    keeping either would teach or score a mistake.
    """
    rejected = [
        Rejected(scan.path, "lies in no class folder")
        for scan in readable
        if placed[scan.path].label is None
    ]
    by_digest: dict[str, list[Inspected]] = defaultdict(list)
    for scan in readable:
        if placed[scan.path].label is not None:
            by_digest[scan.sha256].append(scan)
    copies = []
    for digest in sorted(by_digest):
        same = sorted(by_digest[digest], key=lambda scan: scan.path)
        labels = {str(placed[scan.path].label) for scan in same}
        if len(labels) == 1:
            copies.append(same)
        else:
            reason = f"the same image lies in the classes {quoted(labels)}; keep it in one"
            rejected += [Rejected(scan.path, reason) for scan in same]
    return copies, rejected


def _check_classes(
    copies: Sequence[Sequence[Inspected]],
    placed: dict[PurePosixPath, Placed],
    empty: Sequence[str],
    rejected: Sequence[Rejected],
) -> None:
    counts = Counter(str(placed[same[0].path].label) for same in copies)
    found = ", ".join(f"'{label}' ({n} scans)" for label, n in sorted(counts.items())) or "none"
    lost = {str(p.label) for p in placed.values() if p.label} - set(counts)
    without = [*empty, *sorted(lost)]
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


def _group_names(scans: Sequence[Inspected], distance_bits: int) -> list[str]:
    """Return each scan's group, named after its smallest digest so that names are stable."""
    numbers = near_duplicate_groups([scan.perceptual for scan in scans], distance_bits)
    smallest: dict[int, str] = {}
    for number, scan in zip(numbers, scans, strict=True):
        smallest[number] = min(smallest.get(number, scan.sha256), scan.sha256)
    # The letter keeps readers of CSV from taking a name of digits for a number.
    return [f"g{smallest[number][:12]}" for number in numbers]


def _official_splits(
    copies: Sequence[Sequence[Inspected]], placed: dict[PurePosixPath, Placed]
) -> list[str] | None:
    """Return each distinct scan's split as its folders name it, or None where they name none."""
    splits = [[placed[scan.path].split for scan in same] for same in copies]
    named = {split for same in splits for split in same if split}
    if not named:
        return None
    for same, of_same in zip(copies, splits, strict=True):
        if None in of_same:
            raise SourceError(
                f"Some scans lie under {', '.join(sorted(named))} folders and some, such as "
                f"{same[0].path}, do not. Move them, or set resplit: true to split all anew."
            )
    return [min(filter(None, same), key=("train", "validation", "test").index) for same in splits]


def _copied_across(
    copies: Sequence[Sequence[Inspected]],
    groups: Sequence[str],
    placed: dict[PurePosixPath, Placed],
) -> set[str]:
    """Return the groups of images that lie byte for byte in two official splits."""
    return {
        group
        for same, group in zip(copies, groups, strict=True)
        if len({placed[scan.path].split for scan in same}) > 1
    }


def _rows(
    copies: Sequence[Sequence[Inspected]],
    labels: Sequence[str],
    groups: Sequence[str],
    split_of: dict[str, str],
) -> tuple[list[ManifestRow], dict[str, PurePosixPath]]:
    rows, origin = [], {}
    taken: set[str] = set()  # without case, as some file systems compare names
    for same, label, group in zip(copies, labels, groups, strict=True):
        scan = same[0]
        path = PurePosixPath("scans", label, scan.path.name)
        if str(path).casefold() in taken:
            path = path.with_name(f"{path.stem}-{scan.sha256[:12]}{path.suffix}")
        taken.add(str(path).casefold())
        origin[str(path)] = scan.path
        place = (str(path), label, scan.sha256, len(same), group, split_of[group])
        rows.append(ManifestRow(*place, scan.width, scan.height, scan.mode, scan.format))
    return sorted(rows, key=lambda row: (row.label, row.path)), origin
