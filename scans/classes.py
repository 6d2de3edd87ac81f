"""Class and official split of each file, read from the names of the folders above it."""

from __future__ import annotations

import fnmatch
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from scans.errors import SourceError

# Folder names that published data sets give their official splits.
SPLIT_OF_FOLDER = {
    "train": "train", "training": "train",
    "valid": "validation", "val": "validation", "validation": "validation", "dev": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip


@dataclass(frozen=True)
class ClassPattern:
    """A glob over folder names, and the class that folders matching it stand for."""

    glob: str
    label: str

    def matches(self, folder_name: str) -> bool:
        """Return whether a folder name matches, whatever its case."""
        return fnmatch.fnmatchcase(_normal(folder_name).casefold(), self.glob.casefold())


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a file lies: its class, None outside class folders, and its official split, if any."""

    label: str | None
    split: str | None


def parse_class_patterns(text: str) -> list[ClassPattern]:
    """Read `glob=class;glob=class`, for example `adenocarcinoma*=adenocarcinoma;norm*=normal`.

    Raises:
        SourceError: a part has no `=`, an empty side, or a class name that cannot name a folder.
    """
    patterns = []
    for part in filter(None, (part.strip() for part in text.split(";"))):
        glob, equals, label = (side.strip() for side in part.rpartition("="))
        if not equals or not glob or not label or "/" in part or "\\" in part or label[0] == ".":
            raise SourceError(
                "Expected class_patterns as glob=class;glob=class, for example "
                f"'adenocarcinoma*=adenocarcinoma;normal=normal'. Received: {part!r}"
            )
        patterns.append(ClassPattern(_normal(glob), _normal(label)))
    return patterns


def place_files(
    sources: Sequence[Sequence[PurePosixPath]], patterns: Sequence[ClassPattern]
) -> list[dict[PurePosixPath, Placed]]:
    """Find class and official split of readable scans from their folders.

    Folders that all files of a source share, and `train`, `valid`, `test` folders, name no class.
    Of the folders that are left, the class is the topmost one that matches a pattern, or else the
    topmost. Patterns are tried in order.

    Args:
        sources: the files of each source, relative to its folder.
        patterns: how folders are renamed or merged.

    Raises:
        SourceError: a pattern matches nothing, or two classes differ only in case.
    """
    _check_patterns(sources, patterns)
    placed = []
    for files in sources:
        shared = _shared_folders(files)
        above = {path: _folders(path, shared) for path in files}
        placed.append({path: Placed(_label(n, patterns), s) for path, (n, s) in above.items()})
    _refuse_case_twins({p.label for own in placed for p in own.values() if p.label})
    return placed


def rename_labels(labels: Collection[str], patterns: Sequence[ClassPattern]) -> dict[str, str]:
    """Return the class that each label of a table stands for.

    Raises:
        SourceError: a pattern matches nothing, or two classes differ only in case.
    """
    for pattern in patterns:
        if not any(pattern.matches(label) for label in labels):
            raise SourceError(
                f"The class pattern {pattern.glob!r} matches no label. Labels found: "
                f"{quoted(labels)}. Correct class_patterns."
            )
    renamed = {label: str(_label([label], patterns)) for label in labels}
    _refuse_case_twins(set(renamed.values()))
    return renamed


def _check_patterns(
    sources: Iterable[Sequence[PurePosixPath]], patterns: Sequence[ClassPattern]
) -> None:
    """Refuse patterns that match no folder of any source."""
    names = set()
    for files in sources:
        shared = _shared_folders(files)
        for parent in {path.parent for path in files}:
            names.update(_folders(parent / "file", shared)[0])
    for pattern in patterns:
        if not any(pattern.matches(name) for name in names):
            raise SourceError(
                f"The class pattern {pattern.glob!r} matches no folder with readable scans. "
                f"Folders found: {quoted(names)}. Correct class_patterns."
            )


def empty_classes(
    folders: Iterable[PurePosixPath],
    files: Sequence[PurePosixPath],
    patterns: Sequence[ClassPattern],
    labels: Collection[str],
) -> list[str]:
    """Return names of folders beside the classes' folders without a readable scan in them.

    Args:
        folders: every folder of the source, relative to it.
        files: the readable scans.
        patterns: as for `place_files`.
        labels: classes that have scans.
    """
    shared = _shared_folders(files)
    not_empty = {parent for path in files for parent in path.parents}
    empty = set()
    for folder in folders:
        if folder.parts[: len(shared)] == shared and folder not in not_empty:
            names, _ = _folders(folder / "file", shared)
            label = _label(names, patterns)
            if label and label not in labels:
                empty.add(label)
    return sorted(empty)


def quoted(names: Iterable[str]) -> str:
    """Return names in quotes, sorted, the first ten of them, for a message."""
    listed = sorted(names)
    more = f" and {len(listed) - 10} more" if len(listed) > 10 else ""
    return ", ".join(f"'{name}'" for name in listed[:10]) + more or "none"


def _shared_folders(files: Sequence[PurePosixPath]) -> tuple[str, ...]:
    """Return the folders above every file, less a last one that must be the only class."""
    parents = [path.parent.parts for path in files]
    shared = []
    for level in zip(*parents, strict=False):
        if len(set(level)) > 1 or level[0].casefold() in SPLIT_OF_FOLDER:
            break
        shared.append(level[0])
    if parents and any(len(parent) == len(shared) for parent in parents):
        nothing_below = all(len(parent) == len(shared) for parent in parents)
        return tuple(shared[:-1]) if nothing_below else tuple(shared)
    return tuple(shared)


def _folders(path: PurePosixPath, shared: tuple[str, ...]) -> tuple[list[str], str | None]:
    """Return the folder names that may name a path's class, and its official split."""
    names = [_normal(name) for name in path.parent.parts[len(shared) :]]
    splits = [i for i, name in enumerate(names) if name.casefold() in SPLIT_OF_FOLDER]
    if not splits:
        return names, None
    at = splits[0]
    return names[at + 1 :] or names[:at], SPLIT_OF_FOLDER[names[at].casefold()]


def _label(folders: Sequence[str], patterns: Sequence[ClassPattern]) -> str | None:
    for folder in folders:
        for pattern in patterns:
            if pattern.matches(folder):
                return pattern.label
    return folders[0] if folders else None


def _normal(name: str) -> str:
    """Return a name in Unicode's composed form, since macOS writes the decomposed one."""
    return unicodedata.normalize("NFC", name)


def _refuse_case_twins(labels: set[str]) -> None:
    seen: dict[str, str] = {}
    for label in sorted(labels):
        twin = seen.setdefault(label.casefold(), label)
        if twin != label:
            raise SourceError(
                f"The classes '{twin}' and '{label}' differ only in case. If they are one class, "
                f"merge them: class_patterns: {label.casefold()}={label.casefold()}"
            )
