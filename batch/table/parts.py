"""The table of results: its columns, and its files in Parquet or CSV."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

FORMATS = ("parquet", "csv")
PART_NAME = re.compile(r"part-\d{5,}\.(parquet|csv)")

UTC_MS = pa.timestamp("ms", tz="UTC")
OBJECT_FIELDS = [
    pa.field("uri", pa.string()),
    pa.field("etag", pa.string()),
    pa.field("size_bytes", pa.int64()),
    pa.field("last_modified", UTC_MS),
]
JOB_FIELDS = [
    pa.field("model_uri", pa.string()),
    pa.field("model_digest", pa.string()),
    pa.field("scored_at", UTC_MS),
]
# After all others, and only where the model answers series. `slice_index` is known when a series is
# whole, so it is null until the job has read everything.
PLACE_COLUMNS = {"series_uid": "string", "position_mm": "double", "slice_index": "long"}
SERIES_COLUMNS = PLACE_COLUMNS | {"study_uid": "string"}
TYPES = {"string": pa.string(), "double": pa.float64(), "bool": pa.bool_(), "long": pa.int64()}
MODEL_TYPES = {"label": "string", "probability": "double", "error": "string"}


def part_name(number: int, file_format: str) -> str:
    """Return a part's name, for example `part-00003.parquet`."""
    return f"part-{number:05d}.{file_format}"


def part_names(names: Iterable[str], file_format: str) -> list[str]:
    """Return the parts among an output's names, in order of their numbers."""
    parts = [name for name in names if PART_NAME.fullmatch(name) and name.endswith(file_format)]
    return sorted(parts, key=lambda name: int(name[5:].partition(".")[0]))


def model_column_type(name: str, declared: str | None, example: Any) -> str:
    """Choose a pyfunc column's type, once per output, so that it is the same in every part.

    Args:
        name: the column.
        declared: the type in the model's signature, if it has outputs.
        example: the value in the row of a probe image.

    Returns:
        One of `string`, `double`, `bool`, `long`. A column nothing is known about is `string`.
    """
    if name in MODEL_TYPES or name.startswith("p_"):
        return MODEL_TYPES.get(name, "double")
    if declared in TYPES:
        return declared
    if declared in ("boolean", "integer", "float"):
        return {"boolean": "bool", "integer": "long", "float": "double"}[declared]
    if declared is None and isinstance(example, bool):
        return "bool"
    if declared is None and isinstance(example, float):
        return "double"
    # A whole number in one row may be a fraction in the next, so it is kept as a double.
    return "double" if declared is None and isinstance(example, int) else "string"


def schema_of(model_columns: Mapping[str, str]) -> pa.Schema:
    """Return the table's schema for a pyfunc with these columns and types."""
    last = SERIES_COLUMNS if answers_series(model_columns) else {}
    fields = [pa.field(n, TYPES[kind]) for n, kind in model_columns.items() if n not in last]
    series = [pa.field(name, TYPES[kind]) for name, kind in last.items()]
    return pa.schema([*OBJECT_FIELDS, *fields, *JOB_FIELDS, *series])


def answers_series(columns: Iterable[str]) -> bool:
    """Return whether columns are those of a model that answers series."""
    return set(SERIES_COLUMNS) <= set(columns)


def to_table(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    """Build a table from rows; what a row lacks is null.

    A value that does not fit its column's type becomes null rather than costing the row, except in
    text columns, where it is written as JSON.
    """
    columns = [
        pa.array([_fit(row.get(field.name), field.type) for row in rows], field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _fit(value: Any, kind: pa.DataType) -> Any:
    if hasattr(value, "item"):
        value = value.item()  # NumPy scalar
    if value is None or value != value:  # NaN means missing here
        return None
    if pa.types.is_string(kind):
        return value if isinstance(value, str) else json.dumps(value, default=str)
    if pa.types.is_boolean(kind):
        return bool(value) if isinstance(value, bool | int) else None
    if pa.types.is_floating(kind):
        return float(value) if isinstance(value, bool | int | float) else None
    if pa.types.is_integer(kind):
        return int(value) if isinstance(value, int) else None
    return value


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return a table with the schema's columns: later ones are null, dropped ones go."""
    columns = [
        table[field.name].cast(field.type)
        if field.name in table.column_names
        else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def encode(table: pa.Table, file_format: str) -> bytes:
    """Return the file's bytes."""
    buffer = io.BytesIO()
    if file_format == "csv":
        pyarrow.csv.write_csv(table, buffer)
    else:
        pq.write_table(table, buffer, compression="snappy")
    return buffer.getvalue()


def decode(data: bytes, file_format: str, schema: pa.Schema) -> pa.Table:
    """Read a file that `encode` wrote. Nulls and empty texts are told apart in CSV as well."""
    if file_format == "csv":
        options = pyarrow.csv.ConvertOptions(
            column_types={field.name: field.type for field in schema},
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            null_values=[""],
        )
        parsing = pyarrow.csv.ParseOptions(newlines_in_values=True)
        return conform(
            pyarrow.csv.read_csv(io.BytesIO(data), parse_options=parsing, convert_options=options),
            schema,
        )
    return conform(pq.read_table(io.BytesIO(data)), schema)
