"""The manifest of a prepared data set: one row per distinct image."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from scans.errors import SourceError

MANIFEST = "manifest.csv"
SUMMARY = "summary.json"
IN_EVERY_SUMMARY = ("data_digest", "phantom")


@dataclasses.dataclass(frozen=True, slots=True)
class ManifestRow:
    """One distinct image."""

    path: str  # relative to the manifest's folder, with forward slashes
    label: str
    sha256: str
    copies: int  # files with these bytes in the source, at least 1
    group: str  # scans of a patient and near-duplicates share it; never in two splits
    split: str  # train, validation or test
    width: int  # px
    height: int  # px
    mode: str  # Pillow's name of the pixel format: L, RGB, P, ...
    format: str  # PNG, JPEG, ..., DICOM
    patient: str | None = None  # keyed hash, see `scans.patients`; None where unknown
    series: str | None = None  # SeriesInstanceUID, or what a table of labels calls it
    position_mm: float | None = None  # along the normal of the slice, from the patient's origin
    source: str | None = None  # name of the source; None where there is one without a name


COLUMNS = [field.name for field in dataclasses.fields(ManifestRow)]
_WHOLE_NUMBERS = ("copies", "width", "height")
_NULLABLE = ("patient", "series", "source")  # an empty cell of the file is None


def write_manifest(rows: Iterable[ManifestRow], folder: Path) -> None:
    """Write the manifest into a folder."""
    with (folder / MANIFEST).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(dataclasses.asdict(row) for row in rows)


def read_manifest(folder: Path) -> list[ManifestRow]:
    """Read the manifest of a folder that data_ingestion wrote.

    Raises:
        SourceError: there is none, or its columns are not the manifest's.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise SourceError(f"{path} is missing. Run data_ingestion first: dvc repro data_ingestion")
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames is None or list(reader.fieldnames)[: len(COLUMNS)] != COLUMNS:
            raise SourceError(
                f"Expected {path} to start with the columns {', '.join(COLUMNS)}; received "
                f"{', '.join(reader.fieldnames or [])}. Run data_ingestion again."
            )
        try:
            return [_row(fields) for fields in reader]
        except (ValueError, TypeError) as error:  # a cell that is no number, or a line cut short
            raise SourceError(
                f"{path}, line {reader.line_num}, is not as data_ingestion writes it ({error}). "
                "Run data_ingestion again."
            ) from error


def _row(fields: dict[str, str]) -> ManifestRow:
    whole = {name: int(fields[name]) for name in _WHOLE_NUMBERS}
    nullable = {name: fields[name] or None for name in _NULLABLE}
    position = float(fields["position_mm"]) if fields["position_mm"] else None
    text = {name: fields[name] for name in COLUMNS if name not in {*whole, *nullable}}
    return ManifestRow(**text | {"position_mm": position}, **whole, **nullable)  # type: ignore[arg-type]  # they cover its fields


def read_summary(folder: Path) -> dict[str, Any]:
    """Read the summary of a prepared data set: counts, `data_digest`, `phantom` and more.

    Raises:
        SourceError: there is none, or it lacks what every data set has.
    """
    path = folder / SUMMARY
    if not path.is_file():
        raise SourceError(f"{path} is missing. Run data_ingestion first: dvc repro data_ingestion")
    try:
        summary: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        lacking = [name for name in IN_EVERY_SUMMARY if name not in summary]
    except (ValueError, TypeError) as error:
        raise SourceError(f"{path} is damaged ({error}). Run data_ingestion again.") from error
    if lacking:
        raise SourceError(
            f"{path} was written by another version of data_ingestion: it lacks "
            f"{', '.join(lacking)}. Run data_ingestion again."
        )
    return summary
