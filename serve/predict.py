"""POST /predict: files and zips in, the pyfunc's rows out, and one answer for each series."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request

from serve.counts import count_answers
from serve.http.errors import RefusalError
from serve.params import bad_params, checked, from_text, params_from_text
from serve.scoring import (
    BATCH_ROWS,
    SERIES,
    ServedModel,
    held_place,
    too_many_rows,
)
from serve.series import (
    NOT_SCANS,
    Frames,
    Plan,
    Row,
    planned,
)
from serve.series_entries import json_rows, series_entries, with_series_answers
from serve.uploads import LeftOut, files_in, multipart_form, upload_of

FRAME_BYTES = 12 * 2**20  # of the scans in one call of the model: 23 slices of 512 x 512


@dataclass(frozen=True)
class Answer:
    """What a request gets.

    Attributes:
        rows: one per scan, in order: `file`, then the pyfunc's columns.
        series: one entry per series; None where series are not answered.
        left_out: what of the upload is no scan, or could not be read.
    """

    rows: list[Row]
    series: list[Row] | None
    left_out: list[LeftOut]


def params_in(
    request: Request, form: FormData, declared: dict[str, str]
) -> tuple[dict[str, Any] | None, bool | None]:
    """Return the model's parameters that a query and a form's fields set, and `series`.

    Raises:
        RefusalError: 400 for a parameter the model does not have, or a value of the wrong type.
    """
    fields = [(name, part) for name, part in form.multi_items() if isinstance(part, str)]
    pairs = [*request.query_params.multi_items(), *fields]
    wanted = series_wanted([text for name, text in pairs if name == SERIES])
    return params_from_text([pair for pair in pairs if pair[0] != SERIES], declared), wanted


def series_wanted(texts: Sequence[str]) -> bool | None:
    """Return whether a client asks for answers for series; None if it does not say."""
    if not texts:
        return None
    if len(texts) > 1:
        raise bad_params("Expected the parameter series once; received it several times.")
    wanted: bool = checked(from_text(texts[0], "boolean"), SERIES, "boolean")
    return wanted


async def predict_answer(
    request: Request, model: ServedModel, written: Callable[[Answer], bytes]
) -> bytes:
    """Return what answers a request, as `written` writes it in the thread that scored.

    Raises:
        RefusalError: what is wrong with the request, in one sentence.
    """
    form = await multipart_form(request, model.limits)
    params, wanted = params_in(request, form, model.params)
    if wanted and not model.answers_series:
        raise bad_params("Expected a model that answers series; this one does not: leave it out.")
    files = files_in(form)
    return await asyncio.to_thread(lambda: written(score(files, params, wanted, model)))


def score(
    files: list[UploadFile],
    params: dict[str, Any] | None,
    wanted: bool | None,
    model: ServedModel,
) -> Answer:
    """Score an upload. Runs in a worker thread.

    Args:
        files: scans, and zips of scans.
        params: of the model.
        wanted: whether series are answered; None: if a zip was sent, or several DICOM slices of
            one series.
        model: what scores.

    Raises:
        RefusalError: as `ServedModel.predict`, or there is nothing to score.
    """
    with held_place():
        upload = upload_of(files, model.limits)
        plan = planned(upload.scans, wanted, upload.zipped, model)
        check_scans(len(plan.scans), plan.facts is not None, model)
        left_out = [*upload.left_out, *plan.left_out]
        rows, unread = scored_rows(plan, params, model)
        left_out += unread
        if not rows:
            raise nothing_left(left_out)
        places = sorted(rows)
        frame = pd.DataFrame([rows[i] for i in places], dtype=object)
        series = None
        if plan.facts is not None:
            series = model.series_rows(frame)
            frame = with_series_answers(frame, series)
        count_answers(frame)
    names = [plan.scans[i].file for i in places]
    answers = [{"file": f, **row} for f, row in zip(names, json_rows(frame), strict=True)]
    if series is None:
        return Answer(answers, None, left_out)
    return Answer(answers, series_entries(series, answers, model.healthy), left_out)


def check_scans(scans: int, in_series: bool, model: ServedModel) -> None:
    """Raise RefusalError if a request has more scans than one may have."""
    if not in_series:
        model.check_rows(scans)
    elif scans > model.limits.max_slices:
        raise too_many_rows(model.limits.max_slices, f"received {scans}")


def scored_rows(
    plan: Plan, params: dict[str, Any] | None, model: ServedModel
) -> tuple[dict[int, Row], list[LeftOut]]:
    """Return the rows of an upload by their scans' places, and what turned out to be no scan."""
    frames = Frames(plan, BATCH_ROWS, FRAME_BYTES)
    answers = list(model.parts(frames, params))
    left_out = [LeftOut(plan.scans[i].file, reason) for i, reason in frames.left_out.items()]
    if not answers:
        return {}, left_out
    whole = pd.concat(answers, ignore_index=True) if len(answers) > 1 else answers[0]
    rows: dict[int, Row] = dict(zip(frames.places, whole.to_dict("records"), strict=True))
    for i, row in list(rows.items()):
        if plan.scans[i].zipped and row.get("error_code") in NOT_SCANS:
            left_out.append(LeftOut(plan.scans[i].file, str(row["error"])))
            del rows[i]
    return rows, left_out


def nothing_left(left_out: list[LeftOut]) -> RefusalError:
    """Return the refusal of an upload of which nothing can be scored."""
    if not left_out:
        return RefusalError(400, "bad_request", "Expected one or more scans and received none.")
    first = left_out[0].reason.rstrip(".")
    several = f"{len(left_out)} files, none of which is one; the first" if len(left_out) > 1 else ""
    message = first if first.startswith("Expected") else f"Expected scans; received {first}"
    if several:
        message = f"Expected scans; received {several}: {first[0].lower()}{first[1:]}"
    return RefusalError(400, "bad_request", f"{message}.")


def json_answer(answer: Answer, about: Row) -> bytes:
    """Return an answer for programs.

    Args:
        answer: what was scored.
        about: the answer of GET /model.
    """
    content: Row = {"predictions": answer.rows}
    if answer.series is not None:
        content["series"] = answer.series
    content["left_out"] = [asdict(left_out) for left_out in answer.left_out]
    content["notice"] = about["notice"]
    content["model"] = {key: about[key] for key in ("name", "version", "stage")}
    return json.dumps(content, allow_nan=False).encode()
