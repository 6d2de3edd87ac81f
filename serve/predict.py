"""POST /predict: files in, the pyfunc's rows out, named by file."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator
from typing import Any

import pandas as pd
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from serve.http.errors import RefusalError
from serve.params import params_from_text
from serve.scoring import ServedModel, too_many_rows

CURL = 'curl -F "files=@scan.png" http://…/predict'
MAX_FIELDS = 100


async def multipart_form(request: Request, max_body_bytes: int, max_rows: int) -> FormData:
    """Return a multipart request's fields and files, held in memory.

    Raises:
        RefusalError: 415 if it is not multipart, 400 if it is broken, 413 if it holds more than
            `max_rows` files.
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

    parser = InMemoryParser(request.headers, body(), max_files=max_rows, max_fields=MAX_FIELDS)
    try:
        return await parser.parse()
    except MultiPartException as error:
        if error.message.startswith("Too many files"):
            raise too_many_rows(max_rows, "received more") from error
        message = f"Expected multipart/form-data with one or more files, as from {CURL}"
        raise RefusalError(400, "bad_request", f"{message}; this body is broken.") from error


def files_in(form: FormData) -> list[UploadFile]:
    """Return the files of a form, whatever their fields are called.

    Raises:
        RefusalError: 400 if there is none.
    """
    # A form sent without a choice has one part with neither a name nor a byte.
    parts = [part for _, part in form.multi_items() if isinstance(part, UploadFile)]
    files = [part for part in parts if part.filename or part.size]
    if not files:
        raise RefusalError(400, "bad_request", "Expected one or more scans and received no file.")
    return files


def params_in(request: Request, form: FormData, declared: dict[str, str]) -> dict[str, Any] | None:
    """Return the model's parameters that a query and a form's fields set together.

    Raises:
        RefusalError: 400 for a parameter the model does not have, or a value of the wrong type.
    """
    fields = [(name, part) for name, part in form.multi_items() if isinstance(part, str)]
    return params_from_text([*request.query_params.multi_items(), *fields], declared)


def json_value(value: Any) -> Any:
    """Return one cell of a pyfunc's answer as a JSON value; what is missing is None, never NaN."""
    if value is None or (isinstance(value, float) and math.isnan(value)) or value is pd.NA:
        return None
    return value.item() if hasattr(value, "item") else value


async def predict_files(
    files: list[UploadFile], params: dict[str, Any] | None, model: ServedModel
) -> list[dict[str, Any]]:
    """Return one row per file, in order: `file`, then the pyfunc's columns."""
    images = [await file.read() for file in files]

    def score() -> list[dict[str, Any]]:
        frame = pd.DataFrame({"image": pd.Series(images, dtype=object)})
        answer = model.predict(frame, params)
        columns = [str(name) for name in answer.columns]
        return [
            dict(zip(columns, (json_value(cell) for cell in row), strict=True))
            for row in answer.itertuples(index=False, name=None)
        ]

    rows = await asyncio.to_thread(score)
    return [{"file": f.filename or "", **row} for f, row in zip(files, rows, strict=True)]


async def predict_rows(request: Request, model: ServedModel) -> list[dict[str, Any]]:
    """Return the rows that answer a request.

    Raises:
        RefusalError: what is wrong with the request, in one sentence.
    """
    limits = model.limits
    form = await multipart_form(request, limits.max_body_bytes, limits.max_rows)
    params = params_in(request, form, model.params)
    return await predict_files(files_in(form), params, model)
