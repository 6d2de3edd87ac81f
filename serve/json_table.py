"""A JSON request's scans and params, checked before a table is built of them.

Every form that MLflow's scoring API takes becomes one: columns and rows (`dataframe_split`). So
each form has the same limits, and what a client means is decided in one place.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from serve.http.errors import RefusalError
from serve.http.request_limits import MAX_COLUMNS
from serve.scoring import SERIES, too_many_rows

IMAGE = "image"
FORMS = ("dataframe_records", "dataframe_split", "inputs", "instances")
EXAMPLE = '{"dataframe_records": [{"image": "<base64 of a scan>"}]}'
DO_NOT_FIT = (
    f"Expected JSON such as {EXAMPLE}: one column 'image', each value base64 text of a whole file; "
    "the values received do not fit."
)
NESTED = re.compile(rb"[\[{:]{500}")
VALUES_PER_ROW = 2 * MAX_COLUMNS + 4  # names and values of a record, and a margin


@dataclass(frozen=True)
class Table:
    """The rows of a request; every row has as many values as there are columns."""

    columns: list[str]
    rows: list[list[Any]]


def bad(message: str) -> RefusalError:
    """Return the refusal of a body."""
    return RefusalError(400, "bad_request", message)


def named(names: list[str]) -> str:
    """Return names a client wrote, for a sentence; what is no plain name is only counted."""
    plain = [name for name in names if re.fullmatch(r"[A-Za-z_][\w .-]{0,39}", name)]
    parts = [f"'{name}'" for name in plain[:5]]
    if others := len(names) - len(parts):
        parts.append(f"{others} other{'s' * (others > 1)}" if parts else f"{others} unnamed")
    return " and ".join(parts) or "none"


def parsed(body: bytes, max_rows: int, example: str = EXAMPLE) -> dict[str, Any]:
    """Return a JSON request, after checking that parsing it takes little more than its bytes.

    Each value becomes a Python object of 50 bytes or more, so a few characters of JSON could take
    twenty times their size; commas and brackets are counted first.

    Raises:
        RefusalError: 400 if it is no JSON object, 413 if it holds far more values than scans.
    """
    most = 1024 + max_rows * VALUES_PER_ROW
    structure = outside_texts(body, most)
    if structure is not None and NESTED.search(structure):
        raise bad(f"Expected JSON such as {example}; received JSON nested too deeply.")
    if structure is None or sum(map(structure.count, (b",", b"[", b"{"))) > most:
        raise too_many_rows(max_rows, f"received JSON with more than {most} values")
    expected = f"Expected JSON such as {example}"
    try:
        request = json.loads(body.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise bad(f"{expected}; received bytes that are not UTF-8.") from error
    except json.JSONDecodeError as error:
        raise bad(f"{expected}; not JSON at line {error.lineno}, column {error.colno}.") from error
    except RecursionError as error:
        raise bad(f"{expected}; received JSON nested too deeply.") from error
    except ValueError as error:  # Python reads integers of up to 4,300 digits
        raise bad(f"{expected}; received a number with thousands of digits.") from error
    if not isinstance(request, dict):
        raise bad(f"{expected}; received a JSON {type(request).__name__}, not an object.")
    return request


def outside_texts(body: bytes, most: int) -> bytes | None:
    """Return what stands outside of the texts in JSON; None if there are more than `most` texts."""
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"")  # escaped quotes end no text
    if plain.count(b'"') > 2 * most:
        return None
    return b"".join(plain.split(b'"')[::2])


def table_of(request: dict[str, Any], params: dict[str, str]) -> Table:
    """Return the rows of a request, in whichever of MLflow's forms they came.

    Args:
        request: the JSON object.
        params: the parameters that the model has, to tell those who put one in a wrong place.

    Raises:
        RefusalError: 400 if there is not exactly one form, another field, or no table in it.
    """
    fields = [name for name in request if name != "params"]
    forms = [name for name in fields if name in FORMS]
    if len(forms) != 1:
        choices = ", ".join(FORMS)
        raise bad(f"Expected exactly one of the fields {choices}; received {named(fields)}.")
    if others := [name for name in fields if name not in FORMS]:
        hint = " Parameters go into 'params'." if set(others) & set(params) else ""
        raise bad(f"Expected no fields but {forms[0]} and params; received {named(others)}.{hint}")
    value = request[forms[0]]
    if forms[0] == "dataframe_split":
        return from_split(value)
    if forms[0] == "inputs" and isinstance(value, dict):
        return from_columns(value)
    return from_rows(value if isinstance(value, list) else [value])


def from_split(value: Any) -> Table:
    """Return the table of `{"columns": […], "data": [[…], …]}`."""
    if not isinstance(value, dict) or not set(value) <= {"columns", "data", "index"}:
        raise bad(DO_NOT_FIT)
    rows, columns = value.get("data"), value.get("columns", [IMAGE])
    if not isinstance(rows, list) or not isinstance(columns, list):
        raise bad(DO_NOT_FIT)
    check_columns(columns)
    rows = [row if isinstance(row, list) else [row] for row in rows]
    if any(len(row) != len(columns) for row in rows):
        raise bad("Expected in 'data' one list for each scan, with a value for each column.")
    return table(columns, rows)


def from_columns(value: dict[str, Any]) -> Table:
    """Return the table of `{"image": […], …}`, or of one scan as `{"image": …}`."""
    if set(value) == {"b64"}:
        return table([IMAGE], [[value]])
    check_columns(list(value))
    columns = [cells if isinstance(cells, list) else [cells] for cells in value.values()]
    if len({len(cells) for cells in columns}) > 1:
        raise bad("Expected as many values in one column as in another.")
    rows = [[one_value(cell) for cell in row] for row in zip(*columns, strict=True)]
    return table(list(value), rows)


def from_rows(value: list[Any]) -> Table:
    """Return the table of a list of scans, each an object, a text, or a list of one text."""
    if value and all(isinstance(row, dict) and set(row) != {"b64"} for row in value):
        columns = list(dict.fromkeys(name for row in value for name in row))
        check_columns(columns)
        return table(columns, [[row.get(name) for name in columns] for row in value])
    return table([IMAGE], [[one_value(row)] for row in value])


def one_value(cell: Any) -> Any:
    """Return a value that stands alone in a list, as tensors of one column have it."""
    return cell[0] if isinstance(cell, list) and len(cell) == 1 else cell


def check_columns(columns: list[Any]) -> None:
    """Raise RefusalError if column names are no names, too many, or the same."""
    if len(columns) > MAX_COLUMNS:
        raise bad(
            f"Expected one column 'image', and at most {MAX_COLUMNS} in all; "
            f"received {len(columns)} columns."
        )
    if not all(isinstance(name, str) for name in columns) or len(set(columns)) < len(columns):
        raise bad("Expected a name, and another one for each column, in 'columns'.")


def table(columns: list[str], rows: list[list[Any]]) -> Table:
    """Return a table whose column `image` is text or null, and whose cells are single values."""
    for row in rows:
        for i, name in enumerate(columns):
            row[i] = scan_text(row[i]) if name == IMAGE else row[i]
            if isinstance(row[i], dict | list):
                raise bad(DO_NOT_FIT)
            if name == SERIES and isinstance(row[i], bool):
                raise bad("Expected text or null in the column 'series'; received true or false.")
    return Table(columns, rows)


def scan_text(cell: Any) -> str | None:
    """Return a scan's text; `{"b64": text}`, as TensorFlow Serving writes it, is its text.

    Raises:
        RefusalError: 400 for anything but text and null.
    """
    if isinstance(cell, dict) and set(cell) == {"b64"}:
        cell = cell["b64"]
    if cell is None or isinstance(cell, str):
        return cell
    if isinstance(cell, dict):
        received = f"an object with {named(list(cell))}"
        raise bad(f"Expected base64 text of a whole file, or {{'b64': text}}; received {received}.")
    raise bad(DO_NOT_FIT)
