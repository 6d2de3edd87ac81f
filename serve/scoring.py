"""The pyfunc behind every route: counted, bounded, and called from worker threads."""

from __future__ import annotations

from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException

from serve.http.errors import RefusalError, tellable
from serve.http.request_facts import current, raised_at


class Scorer:
    """Stands between MLflow's scoring application and a pyfunc, with the same two attributes.

    Args:
        model: a loaded `mlflow.pyfunc.PyFuncModel`; several threads call it at once.
        max_rows: most rows in one call.
    """

    def __init__(self, model: Any, max_rows: int) -> None:
        self._model = model
        self._max_rows = max_rows
        self.metadata = model.metadata

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> Any:
        """Return the pyfunc's answer to `data`.

        Raises:
            RefusalError: too many rows, data the model does not take, or the model failed.
        """
        facts = current()
        if facts.slot is not None and not facts.slot.hold():
            raise RefusalError(504, "timeout", "The request ended before its scans were scored.")
        try:
            facts.columns = [str(name) for name in getattr(data, "columns", ())]
            self._check_rows(data)
            answer = self._call(data, params)
        except RefusalError as refusal:
            facts.refusal = refusal
            raise
        finally:
            if facts.slot is not None:
                facts.slot.release()
        count_rows(answer)
        return answer

    def _check_rows(self, data: Any) -> None:
        rows = len(data) if hasattr(data, "__len__") else 1
        if rows > self._max_rows:
            raise RefusalError(
                413,
                "too_many_rows",
                f"Expected at most {self._max_rows} scans in a request and received {rows}: "
                "send them in several requests.",
            )

    def _call(self, data: Any, params: dict[str, Any] | None) -> Any:
        try:
            return self._model.predict(data, params=params)
        except MlflowException as error:
            if "Failed to enforce schema" in error.message:
                raise  # the request's shape: the /invocations filter says what was expected
            if error.message.startswith("Invalid parameters"):
                raise self._wrong_parameters() from error
            raise told_or_failed(error, error.message) from error
        except ValueError as error:
            raise told_or_failed(error, str(error)) from error
        except Exception as error:
            raise model_failed(error) from error

    def declared_params(self) -> dict[str, str]:
        """Return the names of the model's parameters and MLflow's names of their types."""
        schema = self.metadata.get_params_schema()
        return {spec.name: str(spec.dtype.name) for spec in schema.params} if schema else {}

    def _wrong_parameters(self) -> RefusalError:
        declared = ", ".join(f"{name} ({kind})" for name, kind in self.declared_params().items())
        message = f"Expected params of the types the model declares: {declared}; received others."
        return RefusalError(400, "bad_request", message)


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


def count_rows(answer: Any) -> None:
    """Add the rows of an answer, and those with an `error`, to the request's facts."""
    if isinstance(answer, pd.DataFrame):
        facts = current()
        facts.rows += len(answer)
        if "error" in answer.columns:
            facts.rows_with_error += int(answer["error"].notna().sum())
