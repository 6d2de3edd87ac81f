"""POST /invocations: MLflow's scoring API, with limits and with one clear sentence for each error.

The answer is made by MLflow's own function, so good requests get byte for byte what
`mlflow models serve` answers. A request is checked before: MLflow answers a bad one with a stack
trace or with the data it was sent, and builds a table of any size first.
"""

from __future__ import annotations

import threading
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import scoring_server

from serve.http.errors import RefusalError
from serve.json_table import DO_NOT_FIT, IMAGE, bad, named, parsed, table_of
from serve.params import params_from_json
from serve.scoring import SERIES, ServedModel
from serve.table_size import check_csv, check_parquet

JSON, CSV, PARQUET = "application/json", "text/csv", "application/vnd.apache.parquet"
CONTENT_TYPES = (JSON, CSV, PARQUET)
UNPACKED = 2  # times the largest body: most bytes of the values in a Parquet file
# Parsing takes several times a body's size, and Python parses one at a time anyway.
PARSING = threading.Lock()


class OneRequest:
    """What MLflow's function sees of the model: it answers, and keeps why it did not."""

    def __init__(self, model: ServedModel) -> None:
        self._model = model
        self.metadata = model.metadata
        self.refusal: RefusalError | None = None
        self.columns: list[str] | None = None

    def predict(self, data: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Return the model's answer; a refusal is kept, since MLflow wraps it."""
        self.columns = [str(name) for name in data.columns]
        try:
            check_no_params(self.columns, self._model)
            return self._model.predict(data, params)
        except RefusalError as refusal:
            self.refusal = refusal
            raise


def invocations_answer(body: bytes, content_type: str | None, model: ServedModel) -> str:
    """Return MLflow's JSON answer to a request. Runs in a worker thread.

    Args:
        body: JSON, CSV or Parquet.
        content_type: the header of that name.
        model: what scores.

    Raises:
        RefusalError: whatever is wrong with the request, in one sentence.
    """
    kind = known_content_type(content_type)
    with PARSING:
        data = checked_data(body, kind, model)
    request = OneRequest(model)
    try:
        answer = scoring_server.invocations(data, kind, request, model.input_schema)
    except (MlflowException, ValueError, TypeError) as error:
        if request.refusal is not None:
            raise request.refusal from error
        raise fault(kind, request.columns) from error
    if answer.status != 200:
        raise fault(kind, request.columns)
    text: str = answer.response
    return text


def known_content_type(content_type: str | None) -> str:
    """Return the kind of a body, without parameters.

    Raises:
        RefusalError: 415 for another kind or another charset than UTF-8.
    """
    kind, *parameters = [part.strip() for part in (content_type or "").lower().split(";")]
    if kind not in CONTENT_TYPES:
        choices = ", ".join(CONTENT_TYPES)
        received = "none" if not kind else "another"
        message = f"Expected one of the content types {choices}; received {received}."
        raise RefusalError(415, "bad_request", message)
    if any(p.replace('"', "") != "charset=utf-8" for p in parameters if p):
        message = f"Expected the content type {kind}, if anything with charset=utf-8."
        raise RefusalError(415, "bad_request", message)
    return kind


def checked_data(body: bytes, kind: str, model: ServedModel) -> Any:
    """Return what MLflow's function is to parse, after checking its size and its params."""
    if kind == JSON:
        request = parsed(body, model.max_rows)
        table = table_of(request, model.params)
        model.check_rows(len(table.rows))
        if IMAGE not in table.columns:
            raise bad(f"Expected one column '{IMAGE}'; received {named(table.columns)}.")
        split = {"columns": table.columns, "data": table.rows}
        params = params_from_json(request.get("params"), model.params)
        return {"dataframe_split": split} | ({} if params is None else {"params": params})
    if kind == CSV:
        check_csv(body, model.max_rows)
        return body
    return check_parquet(body, model.max_rows, UNPACKED * model.limits.max_body_bytes)


def check_no_params(columns: list[str], model: ServedModel) -> None:
    """Raise RefusalError where a parameter came as a column, in which it would be passed over."""
    if misplaced := [name for name in columns if name in model.params and name != SERIES]:
        raise bad(
            f"Expected one column '{IMAGE}'; received {named(misplaced)}, which goes into 'params'."
        )


def fault(kind: str, columns: list[str] | None) -> RefusalError:
    """Return the refusal of a body that passed the checks, and that MLflow could not read."""
    if kind == JSON:
        return bad(DO_NOT_FIT)
    form = "CSV with a header line" if kind == CSV else "a Parquet file"
    received = (
        "this could not be read" if columns is None else f"received the columns {named(columns)}"
    )
    return bad(f"Expected {form} and one column '{IMAGE}' of base64 text; {received}.")
