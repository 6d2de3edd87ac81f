"""Look scans up in a table of labels: their class, and whose they are if no header says it."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from scans.classes import ClassPattern, rename_labels
from scans.errors import SourceError
from scans.identity import Identity
from scans.label_table import KEYS, LabelLine
from scans.patients import PatientHasher


@dataclass(frozen=True, slots=True)
class Labelled:
    """What the table says of a scan: its class, whose it is, and where it comes from."""

    label: str
    identity: Identity
    source: str | None


@dataclass
class LabelTable:
    """A table of labels that scans are looked up in.

    Attributes:
        name: of the file, for messages.
        lines: of the table.
        sources: names of the data set's sources; empty where there is one without a name.
        hash_patient: turns a Patient ID into its keyed hash.
        used: the first file that each line named, usable or not, by the line's number.
    """

    name: str
    lines: Sequence[LabelLine]
    sources: Sequence[str]
    hash_patient: PatientHasher
    used: dict[int, PurePosixPath] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Index the lines by what they name, and refuse lines that contradict each other."""
        self._by_key: dict[tuple[str, str], list[LabelLine]] = defaultdict(list)
        for line in self.lines:
            self._by_key[line.key, self._value(line)].append(line)
        for (key, _), lines in self._by_key.items():
            by_source: dict[str | None, LabelLine] = {}
            for line in lines:
                source = line.cells.get("source")
                first = by_source.setdefault(source, line)
                if first.label != line.label:
                    raise SourceError(
                        f"Lines {first.number} and {line.number} of {self.name} give one {key} two "
                        f"labels, '{first.label}' and '{line.label}'. Keep one of them."
                    )
        if self.sources:
            self._check_sources()

    def classes(self, patterns: Sequence[ClassPattern]) -> dict[str, str]:
        """Return the class that each label of the table stands for.

        Raises:
            SourceError: see `scans.classes.rename_labels`.
        """
        return rename_labels({line.label for line in self.lines}, patterns)

    def _check_sources(self) -> None:
        known = {"", *self.sources}
        unknown = [line for line in self.lines if line.cells.get("source", "") not in known]
        if unknown:
            raise SourceError(
                f"{self.name} names the source '{unknown[0].cells['source']}' in {_lines(unknown)}."
                f" Expected one of {', '.join(self.sources)}."
            )

    def _value(self, line: LabelLine) -> str:
        """Return what scans are compared with: a path's one spelling, a patient's hash."""
        value = line.cells[line.key]
        if line.key == "path":
            return _one_spelling(value)
        return str(self.hash_patient(value)) if line.key == "patient" else value

    def lines_for(
        self, paths: Sequence[PurePosixPath], identity: Identity, source: str | None
    ) -> list[LabelLine]:
        """Return the lines that name a file, the most specific first, and mark them as used.

        Args:
            paths: the file's path as messages show it, then as the table may write it.
            identity: what its header says.
            source: name of its source, None where there is one without a name.

        Raises:
            SourceError: a line names two files by path.
        """
        values: dict[str, set[str | None]] = {
            "path": {_one_spelling(str(path)) for path in paths},
            "series": {identity.series},
            "study": {identity.study},
            "patient": {identity.patient_of_id},
        }
        found = [
            line
            for key in KEYS
            for value in values[key] - {None}
            for line in self._by_key.get((key, str(value)), ())
            if not self.sources or line.cells.get("source", source) == source
        ]
        for line in found:
            first = self.used.setdefault(line.number, paths[0])
            if line.key == "path" and first != paths[0]:
                raise SourceError(
                    f"Line {line.number} of {self.name} names two files by path, {first} and "
                    f"{paths[0]}. Write the whole path, or name the source in a column 'source'."
                )
        return found

    def label(
        self, paths: Sequence[PurePosixPath], identity: Identity, source: str | None
    ) -> Labelled | None:
        """Return what the table says of a scan, or None where no line names it.

        Args:
            paths, identity, source: as for `lines_for`.

        Raises:
            SourceError: lines contradict each other, or the scan's header.
        """
        lines = self.lines_for(paths, identity, source)
        if not lines:
            return None
        first = lines[0]
        for line in lines[1:]:
            if line.label != first.label:
                raise SourceError(
                    f"Lines {first.number} ({first.key}) and {line.number} ({line.key}) of "
                    f"{self.name} give one scan two labels, '{first.label}' and '{line.label}'. "
                    "Keep one of them."
                )
        for line in lines:
            identity = self._completed(identity, line)
        said = next((line.cells["source"] for line in lines if "source" in line.cells), None)
        return Labelled(first.label, identity, source or said)

    def _completed(self, identity: Identity, line: LabelLine) -> Identity:
        """Fill in what the header does not say, and refuse what it says differently."""
        cells = line.cells
        for column in ("series", "study"):
            known, said = getattr(identity, column), cells.get(column)
            if known and said and known != said:
                raise SourceError(self._contradiction(line, column))
        said_patient = self.hash_patient(cells["patient"]) if "patient" in cells else None
        if identity.patient_of_id and said_patient and identity.patient_of_id != said_patient:
            raise SourceError(self._contradiction(line, "patient"))
        return replace(
            identity,
            patient=identity.patient or said_patient,
            patient_of_id=identity.patient_of_id or said_patient,
            study=identity.study or cells.get("study"),
            series=identity.series or cells.get("series"),
        )

    def _contradiction(self, line: LabelLine, column: str) -> str:
        return (
            f"Line {line.number} of {self.name} gives a scan another {column} than its DICOM "
            "header. Correct the line, or leave the cell empty."
        )

    def check_all_used(self) -> None:
        """Refuse a table with lines that name no file.

        Raises:
            SourceError: with the numbers of those lines.
        """
        unused = [line for line in self.lines if line.number not in self.used]
        if unused:
            keys = sorted({line.key for line in unused}, key=KEYS.index)
            raise SourceError(
                f"{self.name} names no file of the source, by {' or '.join(keys)}, in "
                f"{_lines(unused)}. Correct these lines or remove them."
            )

    def check_unambiguous(self, issuers: Mapping[str, set[str]]) -> None:
        """Refuse lines that name a Patient ID which two issuers have given.

        Args:
            issuers: the patients (hashes with the issuer) of each Patient ID (hash without).
        """
        doubtful = [
            line
            for line in self.lines
            if line.key == "patient" and len(issuers.get(self._value(line), ())) > 1
        ]
        if doubtful:
            raise SourceError(
                f"{self.name} names a patient ID that several issuers have given to different "
                f"patients in {_lines(doubtful)}. Name their studies or series instead."
            )


def _one_spelling(path: str) -> str:
    """Return a path with slashes, without a leading `./`, in Unicode's composed form."""
    text = path.replace("\\", "/").removeprefix("./")
    return unicodedata.normalize("NFC", str(PurePosixPath(text)))


def _lines(lines: Sequence[LabelLine]) -> str:
    """Return the numbers of lines, the first ten of them, for a message."""
    numbers = [str(line.number) for line in lines]
    more = f" and {len(numbers) - 10} more" if len(numbers) > 10 else ""
    if len(numbers) == 1:
        return f"line {numbers[0]}"
    if more:
        return f"lines {', '.join(numbers[:10])}{more}"
    return f"lines {', '.join(numbers[:-1])} and {numbers[-1]}"
