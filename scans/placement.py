"""Which class each readable scan is of: by its folders, or by a table of labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import PurePosixPath

from scans.classes import ClassPattern, Placed, place_files
from scans.fetch import SourceFiles
from scans.identity import Identity
from scans.inspected import Inspected
from scans.labelling import LabelTable
from scans.listing import Rejected


@dataclass(frozen=True, slots=True)
class Scan:
    """A readable scan and where it lies.

    Attributes:
        file: what was found in it.
        source: where it was read from.
        placed: its class and official split.
        source_name: what the data set calls its source; None where that is unknown.
    """

    file: Inspected
    source: SourceFiles
    placed: Placed
    source_name: str | None

    @property
    def label(self) -> str:
        """The class; '' without one."""
        return self.placed.label or ""

    @property
    def shown(self) -> PurePosixPath:
        """The path that messages and tables show."""
        return shown_path(self.source, self.file.path)


def shown_path(source: SourceFiles, path: PurePosixPath) -> PurePosixPath:
    """Return a path as messages and tables show it: below the source's name, if it has one."""
    return PurePosixPath(source.name, path) if source.name else path


def placed_by_folder(
    sources: Sequence[SourceFiles],
    readable: Sequence[Sequence[Inspected]],
    patterns: Sequence[ClassPattern],
) -> list[Scan]:
    """Find class and official split of every readable file from the folders above it.

    Raises:
        SourceError: see `scans.classes.place_files`.
    """
    placed = place_files([[file.path for file in files] for files in readable], patterns)
    return [
        Scan(file, source, where[file.path], source.name)
        for source, files, where in zip(sources, readable, placed, strict=True)
        for file in files
    ]


def placed_by_table(
    sources: Sequence[SourceFiles],
    readable: Sequence[Sequence[Inspected]],
    rejected: Sequence[Sequence[Rejected]],
    patterns: Sequence[ClassPattern],
    table: LabelTable,
) -> tuple[list[Scan], list[Rejected]]:
    """Find the class of every readable file in a table of labels.

    Returns:
        The scans that the table names, with what it says of whose they are, and the readable files
        that it does not name.

    Raises:
        SourceError: lines of the table name no file, or contradict each other or a header; or see
            `scans.classes.rename_labels`.
    """
    scans, unnamed = [], []
    for source, files, refused in zip(sources, readable, rejected, strict=True):
        shared = _shared_levels([*(f.path for f in files), *(other.path for other in refused)])
        for file in files:
            said = table.label(_spellings(source, file.path, shared), file.identity, source.name)
            if said is None:
                reason = f"no line of {table.name} names it"
                unnamed.append(Rejected(shown_path(source, file.path), reason, reason))
            else:
                known = replace(file, identity=said.identity)
                scans.append(Scan(known, source, Placed(said.label, None), said.source))
        for other in refused:
            table.lines_for(_spellings(source, other.path, shared), other.identity, source.name)
    table.check_all_used()
    table.check_unambiguous(_patients_by_id([scan.file.identity for scan in scans]))
    renamed = table.classes(patterns)
    return [replace(s, placed=Placed(renamed[s.label], None)) for s in scans], unnamed


def _shared_levels(paths: Sequence[PurePosixPath]) -> int:
    """Return how many folders, from the top, lie above every file."""
    parents = [path.parent.parts for path in paths]
    levels = takewhile(lambda level: len(set(level)) == 1, zip(*parents, strict=False))
    return sum(1 for _ in levels)


def _spellings(source: SourceFiles, path: PurePosixPath, shared: int) -> list[PurePosixPath]:
    """Return how messages show a path, then how a table may write it.

    That is from the source's folder, or from below some of the folders that all its files share.
    """
    below = [PurePosixPath(*path.parts[level:]) for level in range(shared + 1)]
    return [shown_path(source, path), *below]


def _patients_by_id(identities: Sequence[Identity]) -> Mapping[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for identity in identities:
        if identity.patient and identity.patient_of_id:
            found[identity.patient_of_id].add(identity.patient)
    return found


def identity_warnings(copies: Sequence[Sequence[Scan]]) -> list[str]:
    """Say where headers or a table give one image or one series to several patients.

    Args:
        copies: the scans of each distinct image.
    """
    images = 0
    patients: dict[tuple[str | None, str], set[str]] = defaultdict(set)
    for same in copies:
        found = {scan.file.identity.patient for scan in same} - {None}
        images += len(found) > 1
        for scan in same:
            identity = scan.file.identity
            if identity.series and identity.patient:
                patients[scan.source_name, identity.series].add(identity.patient)
    series = sum(len(found) > 1 for found in patients.values())
    return [
        f"{count} {what} to several patients each. These patients are kept in one split; look "
        "whether their identifiers are right."
        for count, what in ((images, "images belong"), (series, "series belong"))
        if count
    ]
