"""The files: the same types in every part, readable by everything."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from batch.summary import error_kind
from batch.table.parts import (
    FORMATS,
    conform,
    decode,
    encode,
    model_column_type,
    part_names,
    schema_of,
    to_table,
)

COLUMNS = {"label": "string", "probability": "double", "p_a": "double", "error": "string"}
NOW = datetime(2026, 11, 1, 12, 0, 0, 123000, UTC)


def row(**values: Any) -> dict[str, Any]:
    """Return a row with the job's columns filled."""
    job = {
        "uri": "s3://b/k", "etag": "e", "size_bytes": 2**40, "last_modified": NOW,
        "model_uri": "models:/m/1", "model_digest": "d", "scored_at": NOW,
    }  # fmt: skip
    return job | values


ROWS = [
    row(label="a", probability=0.75, p_a=0.75, error=None),
    row(label=None, probability=None, p_a=None, error='quoted "text",\nnext line, Ünïcode'),
    row(label=None, probability=float("nan"), p_a=np.float32(0.5), error=""),
]


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("rows", [ROWS, ROWS[1:2], ROWS[:1], []])
def test_what_is_written_is_read_again_with_the_same_types(
    file_format: str, rows: list[dict[str, Any]]
) -> None:
    schema = schema_of(COLUMNS | {"out_of_domain": "bool", "slices": "long"})
    table = to_table(rows, schema)
    assert table.schema.equals(schema)
    again = decode(encode(table, file_format), file_format, schema)
    assert again.equals(table)


def test_values_that_do_not_fit_become_null_and_never_cost_the_row() -> None:
    schema = schema_of(COLUMNS | {"out_of_domain": "bool", "note": "string"})
    table = to_table(
        [
            row(label=3, probability="high", out_of_domain="maybe", note=[1, 2]),
            row(label="a", probability=1, out_of_domain=np.bool_(True), note={"b": None}),
        ],
        schema,
    ).to_pylist()
    assert (table[0]["label"], table[0]["probability"], table[0]["out_of_domain"]) == (
        "3",
        None,
        None,
    )
    assert (table[1]["probability"], table[1]["out_of_domain"]) == (1.0, True)
    assert json.loads(table[0]["note"]) == [1, 2]


def test_later_columns_are_null_in_earlier_rows() -> None:
    old = to_table(ROWS, schema_of(COLUMNS))
    new = conform(old, schema_of(COLUMNS | {"out_of_domain": "bool"}))
    assert new["out_of_domain"].null_count == 3
    assert conform(new, old.schema).equals(old)


@pytest.mark.parametrize(
    ("name", "declared", "example", "expected"),
    [
        ("label", None, None, "string"),
        ("p_normal", None, None, "double"),
        ("error", None, "text", "string"),
        ("out_of_domain", None, False, "bool"),
        ("out_of_domain", "boolean", None, "bool"),
        ("distance", None, 0.5, "double"),
        ("distance", None, 2, "double"),
        ("count", "integer", None, "long"),
        ("heatmap", None, None, "string"),
        ("boxes", None, [[1, 2]], "string"),
    ],
)
def test_column_types_follow_the_contract_the_signature_or_an_example(
    name: str, declared: str | None, example: Any, expected: str
) -> None:
    assert model_column_type(name, declared, example) == expected


def test_part_names_are_in_order_and_only_ours() -> None:
    names = ["part-00010.parquet", "part-00009.parquet", "part-100000.parquet", "part-1.parquet",
             "part-00001.csv", "_journal/part-00001.parquet", "part-00001.parquet.bak"]  # fmt: skip
    assert part_names(names, "parquet") == [
        "part-00009.parquet", "part-00010.parquet", "part-100000.parquet",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("not_found: the object vanished", "not_found"),
        ("read_failed: S3 answered SlowDown after every retry", "read_failed"),
        (
            "Expected an image. Received: 17 bytes of 'abc'.",
            "Expected an image. Received: # bytes of ….",
        ),
        (
            "Expected an image. Received: 9,000 bytes of 'x'.",
            "Expected an image. Received: # bytes of ….",
        ),
    ],
)
def test_errors_are_counted_by_kind_and_not_by_text(text: str, kind: str) -> None:
    assert error_kind(text) == kind


def test_pandas_pyarrow_and_duckdb_read_the_parts(two_parts: Path) -> None:
    parts = sorted(str(path) for path in two_parts.glob("part-*.parquet"))
    assert len(parts) == 2
    assert all(pa.parquet.read_table(part)["label"].type == pa.string() for part in parts)
    frame = pd.concat(map(pd.read_parquet, parts))
    assert frame["label"].notna().sum() == 4
    assert ds.dataset(parts).to_table(filter=ds.field("error").is_null()).num_rows == 4
    answer = duckdb.sql(
        f"SELECT count(*), count(label), count(error), min(probability), max(scored_at) - "
        f"min(scored_at) FROM read_parquet('{two_parts}/part-*.parquet')"
    ).fetchall()[0]
    assert answer[:3] == (8, 4, 4)
    assert 0.5 <= answer[3] <= 1
    manifest = (two_parts / "_symlink_format_manifest" / "manifest").read_text()
    assert manifest.split() == [Path(part).as_uri() for part in parts]
