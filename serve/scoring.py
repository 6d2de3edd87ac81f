"""The pyfunc behind every route: counted, bounded, and called from worker threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException

from serve.http.errors import RefusalError, tellable
from serve.http.request_facts import (
    ANSWERED,
    FAILED,
    OUT_OF_DOMAIN,
    UNDECIDED,
    current,
    raised_at,
)
from serve.http.request_limits import RequestLimits
from serve.params import declared_params, described

BATCH_ROWS = 32  # between batches a request that nobody waits for is given up
SERIES = "series"  # a column, and a parameter, that makes answers depend on other rows


class ServedModel:
    """A loaded pyfunc that several threads call at once.

    Args:
        model: a `mlflow.pyfunc.PyFuncModel`.
        limits: bounds on what one request may hold.
    """

    def __init__(self, model: Any, limits: RequestLimits) -> None:
        self._model = model
        self.limits = limits
        self.max_rows = limits.max_rows
        self.metadata = model.metadata
        self.input_schema = model.metadata.get_input_schema()
        self.params = declared_params(model.metadata)

    def predict(self, data: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Return the pyfunc's answer to `data`, a row for each of its rows.

        Rows go to the pyfunc in batches, except where the rows of a series belong together.

        Raises:
            RefusalError: too many rows, data that the model does not take, the model failed, or
                nobody waits for the answer any more.
            MlflowException: the columns are not those of the model's signature.
        """
        self.check_rows(len(data))
        with held_place():
            answers = []
            for batch in batches(data, params):
                if current().abandoned.is_set():
                    raise RefusalError(499, "client_gone", "Nobody waits for this answer.")
                answers.append(self._call(batch, params))
                if len(answers[-1]) != len(batch):
                    raise wrong_number_of_rows()
            answer = answers[0] if len(answers) == 1 else pd.concat(answers, ignore_index=True)
        count_answers(answer)
        return answer

    def check_rows(self, rows: int) -> None:
        """Raise RefusalError if a request has more rows than one may have."""
        if rows > self.max_rows:
            raise too_many_rows(self.max_rows, f"received {rows}")

    def _call(self, data: pd.DataFrame, params: dict[str, Any] | None) -> pd.DataFrame:
        try:
            return self._model.predict(data, params=params)
        except MlflowException as error:
            if "Failed to enforce schema" in error.message:
                raise  # the request's shape, which the route knows more about
            if error.message.startswith("Invalid parameters"):
                expected = described(self.params)
                message = f"Expected params of the types the model declares: {expected}."
                raise RefusalError(400, "bad_request", message) from error
            raise told_or_failed(error, error.message) from error
        except ValueError as error:
            raise told_or_failed(error, str(error)) from error
        except Exception as error:
            raise model_failed(error) from error


@contextmanager
def held_place() -> Iterator[None]:
    """Keep the request's place in flight until the block ends, also if its answer is over.

    Raises:
        RefusalError: the request ended before this thread came to it.
    """
    place = current().place
    if place is None:
        yield
        return
    if not place.hold():
        raise RefusalError(499, "client_gone", "The request ended before its scans were scored.")
    try:
        yield
    finally:
        place.release()


def batches(data: pd.DataFrame, params: dict[str, Any] | None) -> Iterator[pd.DataFrame]:
    """Yield a request's rows in order, a batch at a time."""
    together = SERIES in data.columns or bool((params or {}).get(SERIES))
    if together or len(data) <= BATCH_ROWS:
        yield data
        return
    for start in range(0, len(data), BATCH_ROWS):
        yield data.iloc[start : start + BATCH_ROWS].reset_index(drop=True)


def too_many_rows(max_rows: int, received: str) -> RefusalError:
    """Return the refusal of a request with more scans than one may have."""
    return RefusalError(
        413,
        "too_many_rows",
        f"Expected at most {max_rows} scans in a request and {received}: "
        "send them in several requests.",
    )


def told_or_failed(error: Exception, text: str) -> RefusalError:
    """Return a 400 with the model's own sentence, if it is one about the request; else a 500."""
    message = tellable(text)
    return RefusalError(400, "bad_request", message) if message else model_failed(error)


def model_failed(error: Exception) -> RefusalError:
    """Return the refusal for an exception inside the model, and note where it was raised.

    Only its type and place reach the log.
    """
    current().failure = raised_at(error)
    return RefusalError(
        500,
        "model_failed",
        "The model failed on this request, which is not the request's fault: "
        "try the scans one at a time, and tell the server's operator.",
    )


def wrong_number_of_rows() -> RefusalError:
    """Return the refusal for a model that does not answer each row."""
    message = "The model answered with another number of rows than scans: tell its operator."
    return RefusalError(500, "model_failed", message)


def count_answers(answer: pd.DataFrame) -> None:
    """Add the rows of an answer to the request's facts, each under one kind of answer.

    A row is failed before it is out of domain, and out of domain before it is undecided; only
    rows that are none of these are counted under their label.
    """
    facts = current()
    kinds = row_kinds(answer)
    facts.answers.update(kinds)
    if "label" in answer.columns:
        labels = zip(kinds, answer["label"], strict=True)
        facts.labels.update(str(label) for kind, label in labels if kind == ANSWERED)


def row_kinds(answer: pd.DataFrame) -> list[str]:
    """Return the kind of each row; models of older layouts have no column `undecided`."""

    def column(name: str) -> list[Any]:
        return list(answer[name]) if name in answer.columns else [None] * len(answer)

    columns = zip(column("error"), column("out_of_domain"), column("undecided"), strict=True)
    return [row_kind(error, odd, undecided) for error, odd, undecided in columns]


def row_kind(error: Any, out_of_domain: Any, undecided: Any) -> str:
    """Return which kind of answer a row is."""
    if not pd.isna(error):
        return FAILED
    if not pd.isna(out_of_domain) and out_of_domain:
        return OUT_OF_DOMAIN
    return UNDECIDED if not pd.isna(undecided) and undecided else ANSWERED
