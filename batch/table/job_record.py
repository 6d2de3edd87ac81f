"""Whose rows an output holds: `_job.json`, written once, compared by every later run."""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from batch.faults import CannotRunError
from batch.series.files import RECORD, SERIES_PART
from batch.source.selection import Selection
from batch.store.stores import Store
from batch.table.journal import JOURNAL
from batch.table.output import SUCCESS
from batch.table.part_files import DIGESTS
from batch.table.parts import PART_NAME

JOB_NAME = "_job.json"
SUMMARY = "summary.json"
MANIFEST = "_symlink_format_manifest/manifest"


@dataclass(frozen=True)
class Ownership:
    """What must stay the same for a later run to continue in an output.

    Attributes:
        input: the input's URI.
        include, exclude: the patterns of names.
        model: `models:/name` of a registered model, whose versions may change; else its URI.
        format: `parquet` or `csv`.
        columns: the pyfunc's columns and their types; a later version may append some.
        given: which columns of slices a table of series decides; empty without one.
    """

    input: str
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    model: str
    format: str
    columns: dict[str, str]
    given: str = ""


def read_ownership(store: Store) -> Ownership | None:
    """Return what the output says about itself, or None for an empty one.

    Raises:
        CannotRunError: there are results, but nothing says whose.
    """
    try:
        data, _tag = store.read(JOB_NAME)
    except FileNotFoundError:
        if any(PART_NAME.fullmatch(name) for name in store.names("part-")):
            raise CannotRunError(
                f"{store.uri} holds part files but no {JOB_NAME}, so they may belong to something "
                "else. Choose another output, or add --overwrite to replace them."
            ) from None
        return None
    try:
        fields = json.loads(data)
        return Ownership(
            fields["input"],
            tuple(fields["include"]),
            tuple(fields.get("exclude", ())),  # earlier outputs have none
            fields["model"],
            fields["format"],
            dict(fields["columns"]),
            fields.get("given", ""),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise CannotRunError(
            f"{store.uri}{JOB_NAME} is not readable as this job's. Choose another output, or add "
            "--overwrite to start anew."
        ) from error


def require_same_job(
    store: Store,
    old: Ownership,
    input_uri: str,
    selection: Selection,
    file_format: str,
    given: str,
) -> None:
    """Refuse an output that belongs to another input, selection, format or table of series.

    A table of series may be added later. It may not be left out later, because what the slices
    themselves say is no longer there.

    Raises:
        CannotRunError: it does.
    """
    there_and_here = {
        "input": (old.input, input_uri),
        "--include": _patterns(old.include, selection.include, "everything"),
        "--exclude": _patterns(old.exclude, selection.exclude, "nothing"),
        "--format": (old.format, file_format),
    }
    for what, (there, here) in there_and_here.items():
        if there != here:
            raise CannotRunError(_refusal(store, what, there, here))
    if not given.startswith(old.given):
        raise CannotRunError(
            f"{store.uri} was made with a --series-table of {old.given}, and this command's is of "
            f"{given or 'nothing'}. Give such a table again, or add --overwrite to start anew."
        )


def _patterns(there: tuple[str, ...], here: tuple[str, ...], none: str) -> tuple[str, str]:
    return ", ".join(there) or none, ", ".join(here) or none


def require_same_model(
    store: Store, old: Ownership, family: str, columns: dict[str, str]
) -> dict[str, str]:
    """Refuse an output of another model; return the columns to go on with.

    A new version of the same registered model may append columns; it may not drop any or change a
    type, because then the rows would no longer be one table.

    Raises:
        CannotRunError: it is another model, or its columns do not fit.
    """
    if old.model != family:
        raise CannotRunError(_refusal(store, "--model-uri", old.model, family))
    missing = [name for name in old.columns if name not in columns]
    if missing:
        raise CannotRunError(
            f"This version of the model has no column {', '.join(missing)}, which the rows in "
            f"{store.uri} have. Choose another output, or add --overwrite to start anew."
        )
    return old.columns | {name: kind for name, kind in columns.items() if name not in old.columns}


def write_ownership(store: Store, ownership: Ownership) -> None:
    """Record whose output this is."""
    fields = asdict(ownership) | {
        "job_id": uuid.uuid4().hex,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    store.write(JOB_NAME, json.dumps(fields, indent=2).encode())


def clear(store: Store) -> None:
    """Delete what a job writes, and nothing else that may lie beside it."""
    own = {JOB_NAME, SUMMARY, MANIFEST, SUCCESS, RECORD}
    store.delete(
        name
        for name in store.names()
        if name in own
        or name.startswith((JOURNAL, DIGESTS))
        or PART_NAME.fullmatch(name)
        or SERIES_PART.fullmatch(name)
    )


def _refusal(store: Store, what: str, there: str, here: str) -> str:
    return (
        f"{store.uri} belongs to another job: its {what} is {there}, and this command's is {here}. "
        "Choose another output, or add --overwrite to delete its rows and start anew."
    )
