"""The pyfunc behind every route: counted, bounded, and called from worker threads."""

from __future__ import annotations

import base64
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException

from logs.lines import raised_at
from serve.counts import count_answers
from serve.http.errors import RefusalError, tellable
from serve.http.request_facts import current
from serve.http.request_limits import RequestLimits
from serve.params import declared_params, described

BATCH_ROWS = 16  # between batches a request that nobody waits for is given up
# Batches of one request that the model has at one time: it decodes one while its network computes
# the other. More would keep other requests waiting longer, and gain nothing.
BATCHES_AT_ONCE = 2
HEALTHY = "normal"
# A PNG of 32 x 32 grey pixels, the smallest that is scored.
PROBE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAACAAAAAgCAAAAABWESUoAAAANUlEQVR42mNg4BCQUNAwsHDw"
    "CIhIyCioaOiYMGPBig07Dpy4cOPBiw8/GEYVjCoYVTBSFQAAl2zwEJjgKNwAAAAASUVORK5C"
    "YII="
)
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
        self._answers, self._probing = threading.Event(), threading.Lock()
        own = own_model(model)
        self._series_plan: Callable[..., pd.DataFrame] | None = getattr(own, "series_plan", None)
        self._series_rows: Callable[..., pd.DataFrame] | None = getattr(own, "series_rows", None)
        self._pixels: Callable[..., dict[str, Any]] | None = getattr(own, "pixels", None)
        self.returns_pixels = self._pixels is not None
        self.answers_series = None not in (self._series_plan, self._series_rows)
        self.healthy = healthy_classes(model.metadata)
        own_metadata = getattr(model.metadata, "metadata", None) or {}
        self.classes: list[str] = list(own_metadata.get("classes") or [])

    def predict(self, data: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Return the pyfunc's answer to `data`, a row for each of its rows.

        Rows go to the pyfunc in batches, except where the rows of a series belong together.

        Raises:
            RefusalError: too many rows, data that the model does not take, the model failed, or
                nobody waits for the answer any more.
            MlflowException: the columns are not those of the model's signature.
        """
        self.check_rows(len(data))
        answers = list(self.parts(batches(data, params), params))
        answer = answers[0] if len(answers) == 1 else pd.concat(answers, ignore_index=True)
        count_answers(answer)
        return answer

    def parts(
        self, frames: Iterable[pd.DataFrame], params: dict[str, Any] | None
    ) -> Iterator[pd.DataFrame]:
        """Yield the pyfunc's answer to each of some frames, in order.

        Frames are made as they are needed, here, while the model has those before: at one time
        there are BATCHES_AT_ONCE with the model, and the next one.

        Raises:
            As `predict` does.
        """
        with held_place(), ThreadPoolExecutor(BATCHES_AT_ONCE, "score") as threads:
            under_way: deque[Future[pd.DataFrame]] = deque()
            for frame in frames:
                if len(under_way) == BATCHES_AT_ONCE:
                    yield under_way.popleft().result()
                self.check_wanted()
                under_way.append(threads.submit(copy_context().run, self._part, frame, params))
            while under_way:
                yield under_way.popleft().result()

    def _part(self, frame: pd.DataFrame, params: dict[str, Any] | None) -> pd.DataFrame:
        answer = self._call(frame, params)
        if len(answer) != len(frame):
            raise wrong_number_of_rows()
        return answer

    def check_ready(self) -> None:
        """Have the model score a tiny picture, unless it has answered since it last failed.

        Raises:
            RefusalError: 503, it does not answer, or others are just finding out.
        """
        if self._answers.is_set():
            return
        refusal = RefusalError(
            503, "not_ready", "The model does not answer yet: ask again.", {"Retry-After": "1"}
        )
        if not self._probing.acquire(blocking=False):
            raise refusal
        try:
            self._model.predict(pd.DataFrame({"image": pd.Series([PROBE], dtype=object)}))
        except Exception as error:
            current().failure = raised_at(error)
            raise refusal from error
        finally:
            self._probing.release()
        self._answers.set()

    def check_wanted(self) -> None:
        """Raise RefusalError if nobody waits for the request's answer any more."""
        if current().abandoned.is_set():
            raise RefusalError(499, "client_gone", "Nobody waits for this answer.")

    def series_plan(self, heads: Sequence[bytes]) -> pd.DataFrame:
        """Return `series`, `position_mm` and `skipped` of scans, from the starts of their files."""
        assert self._series_plan is not None  # noqa: S101
        return without_nan(self._own(self._series_plan, list(heads)))

    def series_rows(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return one answer per series, from the model's rows of its slices."""
        assert self._series_rows is not None  # noqa: S101
        return without_nan(self._own(self._series_rows, rows))

    def pixels(self, image: bytes) -> dict[str, Any]:
        """Return the pixels that a scan is scored from, as the model's `pixels` does.

        Raises:
            RefusalError: 422 for what cannot be scored, with the row's sentence and code.
        """
        if self._pixels is None:
            message = "Expected a model that returns pixels; this one does not."
            raise RefusalError(501, "not_supported", message)
        with held_place():
            try:
                found: dict[str, Any] = self._pixels(image)
            except ValueError as error:
                code = getattr(error, "code", None)
                if code is None:
                    raise told_or_failed(error, str(error)) from error
                raise RefusalError(422, "unreadable_scan", str(error), code=code) from error
            except Exception as error:
                raise model_failed(error) from error
        return found

    def _own(self, method: Callable[..., pd.DataFrame], data: Any) -> pd.DataFrame:
        """Call a method of the model's own, which MLflow does not know."""
        try:
            return method(data)
        except ValueError as error:
            raise told_or_failed(error, str(error)) from error
        except Exception as error:
            raise model_failed(error) from error

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
            self._answers.clear()  # the next look at /readyz asks it again
            raise model_failed(error) from error


def own_model(model: Any) -> Any:
    """Return the model inside a pyfunc, None where it is not one written in Python."""
    try:
        return model.unwrap_python_model()
    except (AttributeError, MlflowException):
        return None


def healthy_classes(metadata: Any) -> list[str]:
    """Return the classes that are no disease: what the model says, or those called normal."""
    own = getattr(metadata, "metadata", None) or {}
    known: list[str] | None = own.get("healthy_classes")
    if known is not None:
        return list(known)
    return [name for name in own.get("classes") or [] if name.casefold() == HEALTHY]


def without_nan(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table of objects in which what is missing is None."""
    objects = frame.reset_index(drop=True).astype(object)
    return objects.where(objects.notna(), None)


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
