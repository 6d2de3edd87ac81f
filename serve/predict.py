"""POST /predict: files in, the pyfunc's rows out, named by file."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator
from typing import Any

import pandas as pd
from starlette.datastructures import QueryParams, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from serve.http.errors import RefusalError
from serve.scoring import Scorer

TRUTHS = {"true": True, "1": True, "false": False, "0": False}
CURL = 'curl -F "files=@scan.png" http://…/predict'


async def uploaded_files(request: Request, max_body_bytes: int, max_rows: int) -> list[UploadFile]:
    """Return the files of a multipart request, held in memory.

    Raises:
        RefusalError: 415 if it is not multipart, 400 if it is broken or holds no file, 413 if it
            holds more than `max_rows` files.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise RefusalError(
            415, "bad_request", f"Expected multipart/form-data with one or more files: {CURL}"
        )

    class InMemoryParser(MultiPartParser):
        # Starlette moves parts over 1 MB to a file; a patient's scan must not reach the disk.
        spool_max_size = max_body_bytes + 1

    async def body() -> AsyncGenerator[bytes, None]:
        yield await request.body()

    parser = InMemoryParser(request.headers, body(), max_files=max_rows, max_fields=100)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if error.message.startswith("Too many files"):
            message = f"Expected at most {max_rows} scans in a request: send them in several."
            raise RefusalError(413, "too_many_rows", message) from error
        message = f"Expected multipart/form-data with one or more files, as from {CURL}"
        raise RefusalError(400, "bad_request", f"{message}; this body is broken.") from error
    # A form sent without a choice has one part with neither a name nor a byte.
    parts = [part for _, part in form.multi_items() if isinstance(part, UploadFile)]
    files = [part for part in parts if part.filename or part.size]
    if not files:
        raise RefusalError(400, "bad_request", "Expected one or more scans and received no file.")
    return files


def query_params(query: QueryParams, scorer: Scorer) -> dict[str, Any] | None:
    """Return the model's parameters that a query string sets, in the types the model declares.

    Raises:
        RefusalError: 400 for a parameter the model does not have, or a value of the wrong type.
    """
    if not query:
        return None
    declared = scorer.declared_params()
    params: dict[str, Any] = {}
    for name, text in query.items():
        if name not in declared:
            known = ", ".join(declared) or "none"
            message = f"Expected parameters this model has ({known}); received another one."
            raise RefusalError(400, "bad_request", message)
        params[name] = typed(text, name, declared[name])
    return params


def typed(text: str, name: str, dtype: str) -> Any:
    """Return a query value as MLflow's `dtype` (`boolean`, `long`, `double`, `string`, …)."""
    try:
        if dtype == "boolean":
            return TRUTHS[text.lower()]
        if dtype in {"integer", "long"}:
            return int(text)
        if dtype in {"float", "double"}:
            number = float(text)
            if not math.isfinite(number):
                raise ValueError(text)
            return number
    except (KeyError, ValueError) as error:
        message = f"Expected the parameter {name} as {dtype}; received something else."
        raise RefusalError(400, "bad_request", message) from error
    return text


def json_value(value: Any) -> Any:
    """Return one cell of a pyfunc's answer as a JSON value; what is missing is None, never NaN."""
    if value is None or (isinstance(value, float) and math.isnan(value)) or value is pd.NA:
        return None
    return value.item() if hasattr(value, "item") else value


async def predict_files(
    files: list[UploadFile], params: dict[str, Any] | None, scorer: Scorer
) -> list[dict[str, Any]]:
    """Return one row per file, in order: `file`, then the pyfunc's columns."""
    images = [await file.read() for file in files]

    def score() -> list[dict[str, Any]]:
        frame = pd.DataFrame({"image": pd.Series(images, dtype=object)})
        answer = scorer.predict(frame, params)
        columns = [str(name) for name in answer.columns]
        return [
            dict(zip(columns, (json_value(cell) for cell in row), strict=True))
            for row in answer.itertuples(index=False, name=None)
        ]

    rows = await asyncio.to_thread(score)
    if len(rows) != len(files):
        message = "The model answered with another number of rows than scans: tell its operator."
        raise RefusalError(500, "model_failed", message)
    return [{"file": f.filename or "", **row} for f, row in zip(files, rows, strict=True)]
