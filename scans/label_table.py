"""A table of labels: which class each path, series, study or patient is of."""

from __future__ import annotations

import csv
import difflib
import io
import itertools
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scans.errors import SourceError

KEYS = ("path", "series", "study", "patient")  # from the most specific to the least
COLUMNS = (*KEYS, "label", "source")
DELIMITERS = ",;\t"


@dataclass(frozen=True, repr=False)
class LabelLine:
    """One line of the table; it has no `repr`, for it may name a patient.

    Attributes:
        number: of the line in the file; the header is line 1.
        cells: value by column, without the empty ones.
    """

    number: int
    cells: dict[str, str]

    @property
    def key(self) -> str:
        """The column that says which scans the line is about: the most specific one it fills."""
        return next(key for key in KEYS if key in self.cells)

    @property
    def label(self) -> str:
        """The class."""
        return self.cells["label"]


def read_label_table(path: Path) -> list[LabelLine]:
    """Read a table of labels.

    The file is CSV in UTF-8 with a header line; commas, semicolons or tabs between the cells. It
    has a column `label`, at least one of `path`, `series`, `study` and `patient`, and may have
    `source`; further columns are left alone.

    Raises:
        SourceError: no such file, not such a table, no line in it, or lines that contradict each
            other.
    """
    name = path.name
    text = _text(path)
    header, _, _ = text.partition("\n")
    delimiter = max(DELIMITERS, key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    lines: list[LabelLine] = []
    columns: list[str] | None = None
    try:
        for cells in reader:
            values = [unicodedata.normalize("NFC", cell).strip() for cell in cells]
            if not any(values):
                continue
            if columns is None:
                columns = _columns(values, name)
            else:
                lines.append(_line(columns, values, reader.line_num, name))
    except csv.Error as e:
        raise SourceError(
            f"Line {reader.line_num} of {name} is no line of a CSV file ({e}). Save it as CSV."
        ) from e
    if not lines:
        raise SourceError(
            f"{name} holds no label. Expected a header line with `label` and one of "
            f"{', '.join(KEYS)}, and a line for each of them."
        )
    _check_statements(lines, name)
    return lines


def _check_statements(lines: Sequence[LabelLine], name: str) -> None:
    """Refuse lines that say of one path, series or study that it is of two others."""
    for finer, coarser in itertools.combinations(KEYS, 2):
        first: dict[tuple[str, str], LabelLine] = {}
        for line in lines:
            if not {finer, coarser} <= line.cells.keys():
                continue
            known = first.setdefault((line.cells.get("source", ""), line.cells[finer]), line)
            if known.cells[coarser] != line.cells[coarser]:
                raise SourceError(
                    f"Lines {known.number} and {line.number} of {name} give one {finer} two "
                    f"different values of {coarser}. Correct one of them; a series or study that "
                    "is another patient's needs a name of its own."
                )


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise SourceError(
            f"{path} is not UTF-8 text. Expected a CSV file. Save the table as CSV UTF-8."
        ) from e
    except OSError as e:
        raise SourceError(
            f"The table of labels {path} cannot be read: {e.strerror}. Correct labels."
        ) from e


def _columns(header: Sequence[str], name: str) -> list[str]:
    """Return the header's names in lower case, having checked them."""
    columns = [column.lower() for column in header]
    shown = ", ".join(f"'{column}'" for column in header[:20])
    for column in COLUMNS:
        if columns.count(column) > 1:
            raise SourceError(f"{name} has two columns '{column}'. Keep one.")
    missing = "label" not in columns or not set(KEYS) & set(columns)
    close = [
        (column, near[0])
        for column in columns
        if column not in COLUMNS
        and (near := difflib.get_close_matches(column, COLUMNS, n=1, cutoff=0.8))
        and near[0] not in columns
    ]
    if missing or close:
        hint = f" Did you mean '{close[0][1]}' by '{close[0][0]}'?" if close else ""
        raise SourceError(
            f"Expected {name} to begin with a header line that has 'label' and at least one of the "
            f"key columns {', '.join(KEYS)}. Received: {shown}.{hint}"
        )
    return columns


def _line(columns: Sequence[str], values: Sequence[str], number: int, name: str) -> LabelLine:
    if len(values) > len(columns):
        raise SourceError(
            f"Line {number} of {name} has {len(values)} cells. Expected {len(columns)}, as in the "
            "header line. Put cells with a delimiter in them in quotes."
        )
    pairs = zip(columns, values, strict=False)
    cells = {column: value for column, value in pairs if column in COLUMNS and value}
    if not set(KEYS) & set(cells):
        raise SourceError(
            f"Line {number} of {name} names no scan. Expected a value in one of the columns "
            f"{', '.join(KEYS)}. Fill one or remove the line."
        )
    label = cells.get("label", "")
    if not label or "/" in label or "\\" in label or label[0] == ".":
        raise SourceError(
            f"Expected a class in the column label of line {number} of {name}, without slashes and "
            f"not beginning with a dot. Received: {label!r}. Correct it or remove the line."
        )
    return LabelLine(number, cells)
