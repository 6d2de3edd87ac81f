"""What the API takes and answers, as JSON schemas for its description."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from serve.http.request_limits import MAX_COLUMNS

Schema = dict[str, Any]
JSON_TYPES = {"boolean": "boolean", "double": "number", "float": "number", "long": "integer",
              "integer": "integer"}  # fmt: skip
MEANINGS = {
    "threshold": "Least probability of disease called diseased; without, the model's own.",
    "explain": "Add `heatmap` to each row.",
    "series": "Answer the series that DICOM files belong to; false: rows only. Without, series are "
    "answered if a zip was sent, or several slices of one series.",
}
TEXT: Schema = {"type": "string"}
BASE64: Schema = {
    "type": ["string", "null"],
    "description": "A whole file, as base64 text; null gets a row with an error.",
}


def nullable(kind: str, description: str) -> Schema:
    """Return the schema of a value that may be missing."""
    return {"type": [kind, "null"], "description": description}


def param_schema(name: str, kind: str) -> Schema:
    """Return the schema of a model's parameter.

    Args:
        name: of the parameter.
        kind: MLflow's name of its type.
    """
    schema: Schema = {"type": JSON_TYPES.get(kind, "string")}
    return schema | ({"minimum": 0, "maximum": 1} if name == "threshold" else {})


def row_columns(classes: Sequence[str], params: dict[str, str]) -> Schema:
    """Return the columns of one scan's row.

    Args:
        classes: the model's classes.
        params: the model's parameters; `explain` adds the column `heatmap`.
    """
    properties: Schema = {
        "label": nullable("string", "The class that the scan is called."),
        "probability": nullable("number", "The probability of that class."),
    }
    for name in classes:
        properties[f"p_{name}"] = nullable("number", f"The probability of {name}.")
    properties |= {
        "error": nullable("string", "Why this scan was not scored; the other columns are null."),
        "out_of_domain": nullable("boolean", "Unlike the scans that the model was trained on."),
        "undecided": nullable("boolean", "Not one class at the model's stated error rate."),
        "error_code": nullable("string", "One stable word for the reason in `error`."),
    }
    if "explain" in params:
        properties["heatmap"] = nullable("string", "With `explain`: base64 of a PNG.")
    return properties


SERIES_COLUMNS: Schema = {
    "series": nullable("string", "The series that the slice belongs to."),
    "series_label": nullable("string", "The class that its series is called."),
    "series_probability": nullable("number", "Its series' probability of disease."),
    "series_undecided": nullable("boolean", "Its series is not one class."),
    "key_slice": nullable("boolean", "The slice that speaks most for its series' answer."),
    "position_mm": nullable("number", "Along the series."),
    "skipped": nullable("boolean", "Not scored, since others of its series lie close by."),
}


def series_columns(classes: Sequence[str]) -> Schema:
    """Return what POST /predict says of a series."""
    probabilities = {f"p_{name}": nullable("number", f"The probability of {name}.")
                     for name in classes}  # fmt: skip
    counts = ("slices", "scored", "skipped", "failed", "gaps", "duplicate_positions")
    return {
        "series": TEXT,
        "label": nullable("string", "The class that the series is called."),
        "probability": nullable("number", "The probability of disease."),
        **probabilities,
        "undecided": nullable("boolean", "Not one class at the model's stated error rate."),
        "error": nullable("string", "Why the series has no answer."),
        **{name: {"type": "integer"} for name in counts},
        "out_of_domain_share": nullable("number", "Of the scored slices."),
        "key_slice": nullable("string", "File of the slice that speaks most for the answer."),
        "key_row": nullable("integer", "Its place in `predictions`."),
        "key_position_mm": nullable("number", "Its position."),
        "first_mm": nullable("number", "The lowest position."),
        "last_mm": nullable("number", "The highest position."),
        "note": nullable("string", "What is odd about the series."),
        "curve": {"type": "array", "items": ref("CurvePoint")},
    }


def object_of(properties: Schema, required: Sequence[str] = (), *, closed: bool = False) -> Schema:
    """Return the schema of an object.

    Args:
        properties: schemas by name.
        required: names that are always there.
        closed: whether there is nothing else.
    """
    schema: Schema = {"type": "object", "properties": properties}
    if required:
        schema["required"] = list(required)
    return schema | ({"additionalProperties": False} if closed else {})


def list_of(name: str, **bounds: int) -> Schema:
    """Return the schema of a list of objects that have a name."""
    return {"type": "array", "items": ref(name), **bounds}


def schemas(about: Schema) -> Schema:
    """Return the schemas that the description's paths refer to, by name.

    Args:
        about: the answer of GET /model.
    """
    classes, params = about["classes"] or [], about["params"]
    columns = row_columns(classes, params)
    row = columns | (SERIES_COLUMNS if about["answers_series"] else {})
    file = {"type": "string", "description": "Name of the file, as it was sent."}
    point = {
        "position_mm": nullable("number", "Along the series."),
        "probability": {"type": "number"},
        "file": TEXT,
        "row": {"type": "integer", "description": "Place in `predictions`."},
    }
    model_names = {name: {"type": ["string", "null"]} for name in ("name", "version", "stage")}
    answer = {
        "predictions": list_of("FileRow"),
        "series": list_of("SeriesEntry"),
        "left_out": list_of("LeftOut"),
        "notice": TEXT,
        "model": ref("ModelName"),
    }
    needed = ("predictions", "left_out", "notice", "model")
    series_columns_ = series_columns(classes)
    return {
        "Row": object_of(row, ("label", "error")),
        "FileRow": object_of({"file": file, **row}, ("file", "label", "error")),
        "Rows": object_of({"predictions": list_of("Row")}, ("predictions",)),
        "CurvePoint": object_of(point, tuple(point)),
        "SeriesEntry": object_of(series_columns_, tuple(series_columns_)),
        "LeftOut": object_of({"file": TEXT, "reason": TEXT}, ("file", "reason")),
        "ModelName": object_of(model_names, tuple(model_names)),
        "Answer": object_of(answer, needed),
        "SeriesRequest": series_request(columns, about["max_series_rows"]),
        "SeriesAnswer": object_of({"series": list_of("SeriesEntry")}, ("series",)),
        "Model": model_schema(model_names),
        "Error": object_of({"error_code": TEXT, "message": TEXT}, ("error_code", "message")),
        **invocation_schemas(params, about["max_rows"], about["answers_series"]),
    }


def series_request(columns: Schema, most: int) -> Schema:
    """Return what POST /series takes: rows as POST /predict answers them."""
    needed = ["series", *(name for name in columns if name.startswith("p_"))]
    kept = ("series", "position_mm", "skipped")
    row = {"file": TEXT, **columns, **{name: SERIES_COLUMNS[name] for name in kept}}
    row.pop("heatmap", None)  # not looked at
    for name in needed[1:]:
        row[name] = row[name] | {"minimum": 0, "maximum": 1}
    row["position_mm"] = row["position_mm"] | {"minimum": -1e6, "maximum": 1e6}
    row["probability"] = row["probability"] | {"minimum": 0, "maximum": 1}
    described = f"At most {most}."
    rows = {"type": "array", "items": object_of(row, needed), "description": described}
    return object_of({"rows": rows}, ("rows",), closed=True)


def invocation_schemas(params: dict[str, str], most: int, in_series: bool) -> Schema:
    """Return what POST /invocations takes as JSON: one of MLflow's forms."""
    chosen = object_of(
        {name: param_schema(name, kind) for name, kind in params.items()}, closed=True
    )
    series = {"series": {"type": ["string", "number", "null"]}} if in_series else {}
    record = {"image": BASE64} | series
    one = {"type": "array", "items": BASE64, "minItems": 1, "maxItems": 1}
    texts = {"type": "array", "items": {"anyOf": [BASE64, one]}}
    # One scan need not stand in a list.
    scans = {
        "anyOf": [list_of("ScanRecord"), texts, ref("ScanRecord"), BASE64],
        "description": f"At most {most} scans.",
    }
    columns = {"type": "array", "items": {"const": "image"}, "minItems": 1, "maxItems": 1}
    split = object_of({"columns": columns, "data": texts}, ("data",), closed=True)
    values = {
        "dataframe_records": ("RecordsRequest", scans),
        "dataframe_split": ("SplitRequest", split),
        "inputs": ("InputsRequest", scans),
        "instances": ("InstancesRequest", scans),
    }
    params_or_null = {"oneOf": [ref("Params"), {"type": "null"}]}
    forms = {
        name: object_of({field: schema, "params": params_or_null}, (field,), closed=True)
        for field, (name, schema) in values.items()
    }
    return {
        "Params": chosen,
        # Further columns are passed over.
        "ScanRecord": object_of(record, ("image",))
        | {"additionalProperties": {"type": ["string", "number", "boolean", "null"]}}
        | {"maxProperties": MAX_COLUMNS},
        **forms,
        "InvocationsRequest": {"oneOf": [ref(name) for name in forms]},
    }


def model_schema(names: Schema) -> Schema:
    """Return the schema of GET /model's answer."""
    texts: Schema = {"type": "array", "items": TEXT}
    properties = {
        **names,
        "aliases": texts,
        "classes": {"type": ["array", "null"], "items": TEXT},
        "healthy_classes": texts,
        "threshold": nullable("number", "Least probability of disease called diseased."),
        "series_threshold": nullable("number", "The same, of a series."),
        "model_digest": nullable("string", "SHA-256 over the files that decide an answer."),
        "phantom": nullable("boolean", "Trained on synthetic phantoms, not on scans."),
        "synthetic": nullable("string", "The sentence that says so."),
        "params": {"type": "object", "additionalProperties": TEXT},
        "scores": nullable("object", "On the test split, with 95 % intervals."),
        "external": {"type": "object", "description": "Scores on sets from elsewhere."},
        "card": nullable("string", "The model card, as Markdown."),
        "answers_series": {"type": "boolean"},
        "returns_pixels": {"type": "boolean"},
        "notice": TEXT,
        **{name: {"type": "integer"}
           for name in ("max_body_bytes", "max_rows", "max_slices", "max_series_bytes",
                        "max_series_rows")},
    }  # fmt: skip
    return object_of(properties, [name for name in properties if name not in names])


def ref(name: str) -> Schema:
    """Return a reference to a schema."""
    return {"$ref": f"#/components/schemas/{name}"}
