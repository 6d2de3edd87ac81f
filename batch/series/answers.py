"""One row per series, from the model's own rows of its slices."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute

from batch.model_process import ModelDiedError, ModelProcess
from batch.series.slices import whole_series
from batch.table.parts import JOB_FIELDS, OBJECT_FIELDS, to_table

CHUNK_SLICES = 4096  # that the model gets at once, but for a series that has more
MAX_SLICES = 20_000  # of one series: several times what a scanner makes
COUNTS = ("slices", "scored", "skipped", "failed")
OF_THE_JOB = {field.name for field in (*OBJECT_FIELDS, *JOB_FIELDS)}
NOT_THE_MODELS = OF_THE_JOB | {"slice_index", "study_uid"}

Row = dict[str, Any]


@dataclass(frozen=True)
class MadeFrom:
    """What a series table is made from, which each of its rows names.

    Attributes:
        model_uri, model_digest: of the model that answered.
        slices_digest: of all slice parts.
    """

    model_uri: str
    model_digest: str
    slices_digest: str


def series_schema(slices: pa.Schema) -> pa.Schema:
    """Return the series table's schema for a slice table's."""
    text, number, count = pa.string(), pa.float64(), pa.int64()
    classes = [(field.name, number) for field in slices if field.name.startswith("p_")]
    return pa.schema(
        [
            ("series_uid", text), ("label", text), ("probability", number), *classes,
            ("undecided", pa.bool_()), ("error", text),
            *((name, count) for name in COUNTS), ("out_of_domain_share", number),
            ("key_slice_uri", text), ("key_position_mm", number),
            ("first_mm", number), ("last_mm", number),
            ("gaps", count), ("duplicate_positions", count), ("note", text),
            ("model_uri", text), ("model_digest", text), ("slices_digest", text),
            ("study_uid", text),
        ]
    )  # fmt: skip


def answers(
    slices: Iterable[pa.Table], model: ModelProcess, made_from: MadeFrom
) -> Iterator[pa.Table]:
    """Answer series a few thousand slices at a time.

    Args:
        slices: the slice table's rows, sorted by series.

    Yields:
        Rows of the series table, one per series, in the same order.
    """
    for chunk in whole_series(slices, CHUNK_SLICES, MAX_SLICES):
        yield _answered(chunk.slices, chunk.left_out, model, made_from)


def _answered(
    slices: pa.Table, left_out: dict[str, int], model: ModelProcess, made_from: MadeFrom
) -> pa.Table:
    """Return one row for each series of a chunk."""
    counted = {
        pair["values"]: pair["counts"] + left_out.get(pair["values"], 0)
        for pair in pa.compute.value_counts(slices["series_uid"]).to_pylist()
    }
    refused = _of_other_models(slices, made_from) | {
        name: f"Expected at most {MAX_SLICES} slices in a series, received {counted[name]}; give "
        "its slices the series they are of in a table (--series-table)."
        for name in counted
        if counted[name] > MAX_SLICES
    }
    others = pa.array(list(refused), pa.string())
    asked = slices.filter(
        pa.compute.invert(pa.compute.is_in(slices["series_uid"], value_set=others))
    )
    found = {row["series"]: row for row in _ask(asked, model)} if asked.num_rows else {}
    studies = _studies(slices)
    rows = [
        found.get(name, {"error": refused.get(name)})
        | {"series_uid": name, "slices": number, "study_uid": studies[name]}
        | {name: getattr(made_from, name) for name in made_from.__dataclass_fields__}
        for name, number in counted.items()
    ]
    return to_table(rows, series_schema(slices.schema))


def _studies(slices: pa.Table) -> dict[str, str | None]:
    """Return the study of each series, None where its slices name several or none."""
    of_series = slices.group_by("series_uid").aggregate(
        [("study_uid", "count_distinct"), ("study_uid", "max")]
    )
    return {
        row["series_uid"]: row["study_uid_max"] if row["study_uid_count_distinct"] == 1 else None
        for row in of_series.to_pylist()
    }


def _of_other_models(slices: pa.Table, made_from: MadeFrom) -> dict[str, str]:
    """Return why series have no answer some of whose slices an earlier model scored.

    Only --limit leaves such rows in the slice table.
    """
    other = pa.compute.not_equal(slices["model_digest"], made_from.model_digest)
    names = pa.compute.unique(slices.filter(other)["series_uid"]).to_pylist()
    reason = "Some of its slices were scored by an earlier model; run the job without --limit."
    return dict.fromkeys(names, reason)


def _ask(slices: pa.Table, model: ModelProcess) -> list[Row]:
    """Return the model's rows, with the key slice's URI; a series that kills the model has none."""
    names = ["series" if n == "series_uid" else n for n in slices.column_names]
    renamed = slices.rename_columns(names)
    own = renamed.select([name for name in names if name not in NOT_THE_MODELS])
    try:
        rows = model.series_rows(own)
    except ModelDiedError as died:
        series = pa.compute.unique(slices["series_uid"]).to_pylist()
        if len(series) == 1:
            error = f"model_died: answering it ended the model's process, which {died}"
            return [{"series": series[0], "error": error}]
        return [row for name in series for row in _ask(_only(slices, name), model)]
    for row in rows:
        key = row.get("key_slice")
        row["key_slice_uri"] = None if key is None else slices["uri"][int(key)].as_py()
    return rows


def _only(slices: pa.Table, series: str) -> pa.Table:
    return slices.filter(pa.compute.equal(slices["series_uid"], series))
