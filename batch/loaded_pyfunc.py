"""A pyfunc in this process: loaded, asked for its columns, asked for rows."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np

from batch.faults import CannotRunError
from batch.pyfunc import quiet_mlflow
from batch.table.parts import SERIES_COLUMNS, model_column_type

# 32 x 32 grey pixels, to see the model's columns before any scan is read.
PROBE_PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAACAAAAAgCAAAAABWESUoAAAANUlEQVR42mNg4BCQUNAwsHDw"
    "CIhIyCioaOiYMGPBig07Dpy4cOPBiw8/GEYVjCoYVTBSFQAAl2zwEJjgKNwAAAAASUVORK5C"
    "YII="
)
MAX_ERROR_CHARACTERS = 500
PLAIN = (str, bool, int, float, type(None))
SERIES = "series"  # the parameter and the column of a model that answers series
# What the model says of the series of one call. A batch is no series, so it means nothing here.
OF_ONE_CALL = {
    SERIES,
    "series_label",
    "series_probability",
    "series_undecided",
    "key_slice",
    "position_mm",
    "skipped",
}

Row = dict[str, Any]


class LoadedPyfunc:
    """A loaded pyfunc. `columns` maps its columns to their types, in its order.

    One that answers series (see docs/batch.md) has `parts.SERIES_COLUMNS` as well.
    """

    def __init__(self, folder: Path) -> None:
        """Load the model and score a probe.

        Raises:
            CannotRunError: it cannot be loaded, or gives no rows for a probe.
        """
        import mlflow.pyfunc

        with quiet_mlflow():
            try:
                self.model: Any = mlflow.pyfunc.load_model(str(folder), suppress_warnings=True)
            except Exception as error:  # whatever the model's own code raises
                first = _first_cause(error)
                raise CannotRunError(
                    f"The model cannot be loaded ({type(first).__name__}: {_one_line(first)}). "
                    "Install the requirements it lists, or choose another --model-uri."
                ) from error
        self._series_model = _series_model(self.model)
        self._one_series_each = False
        self.columns = self._probe()

    def _probe(self) -> dict[str, str]:
        try:
            frame = self._predict([b"", PROBE_PNG])
            if self._series_model is not None:
                frame = self._probe_as_series(frame)
        except Exception as error:  # whatever the model's own code raises
            raise CannotRunError(
                f"The model gives no rows ({type(error).__name__}: {_one_line(error)}). Expected a "
                "pyfunc with one input column `image` and one row per image; choose another "
                "--model-uri."
            ) from error
        outputs = self.model.metadata.get_output_schema()
        declared = (
            {column.name: column.type.name for column in outputs.inputs}
            if outputs is not None and not outputs.is_tensor_spec()
            else {}
        )
        names = [str(name) for name in frame.columns]
        if "error" not in names:
            raise CannotRunError(
                f"Expected a model whose rows have a column `error`. Received: {', '.join(names)}. "
                "Choose another --model-uri."
            )
        example = frame.iloc[1].to_dict()
        columns = {n: model_column_type(n, declared.get(n), example[n]) for n in names}
        return columns | (SERIES_COLUMNS if self._series_model is not None else {})

    def _probe_as_series(self, alone: Any) -> Any:
        """Find out whether series are answered from a column that slices alone do not have.

        Args:
            alone: the rows of the probe.

        Returns:
            The rows from which series are answered.
        """
        self._one_series_each = True
        frame = self._predict([b"", PROBE_PNG])
        frame = frame.drop(columns=list(OF_ONE_CALL), errors="ignore")
        self._one_series_each = list(frame.columns) != list(alone.columns)
        return frame

    def _predict(self, images: list[bytes]) -> Any:
        import pandas as pd

        columns = {"image": pd.Series(images, dtype=object)}
        if self._one_series_each:  # so that the model skips none
            columns[SERIES] = pd.Series([f"slice {n}" for n in range(len(images))], dtype=object)
        frame = self.model.predict(pd.DataFrame(columns))
        if not isinstance(frame, pd.DataFrame):
            raise TypeError(f"expected a DataFrame, received {type(frame).__name__}")
        if len(frame) != len(images):
            raise ValueError(f"expected {len(images)} rows, received {len(frame)}")
        return frame

    def score(self, images: list[bytes]) -> list[Row]:
        """Return one row per image, in order. A batch that fails is asked again one by one.

        The values are plain (text, numbers, booleans, None), so that they can leave the process.
        """
        try:
            rows = self._predict(images).to_dict("records")
            if self._series_model is not None:
                rows = self._with_place(images, rows)
            return [{str(k): _plain(v) for k, v in row.items()} for row in rows]
        except Exception as error:  # whatever the model's own code raises
            if len(images) == 1:
                return [{"error": f"model_failed: {type(error).__name__}: {_one_line(error)}"}]
        return [row for image in images for row in self.score([image])]

    def _with_place(self, images: list[bytes], rows: list[Row]) -> list[Row]:
        """Return rows as the slice table has them: with study, series and position of each."""
        places = self._series_model.series_plan(images).to_dict("records")
        return [
            {name: value for name, value in row.items() if name not in OF_ONE_CALL}
            | {
                "series_uid": place[SERIES] or None,
                "position_mm": place["position_mm"],
                "study_uid": place.get("study") or None,  # models of earlier releases tell none
            }
            for row, place in zip(rows, places, strict=True)
        ]

    def series_rows(self, slices: Any) -> list[Row]:
        """Return the model's answer for each series of a DataFrame of its own rows.

        The rows have the column `series`. A series that fails among others is asked for again
        alone, and then has `error` only. `key_slice` counts the rows of `slices`, from 0.
        """
        series = list(dict.fromkeys(slices[SERIES]))
        try:
            frame = self._series_model.series_rows(slices)
            rows = [{str(k): _plain(v) for k, v in row.items()} for row in frame.to_dict("records")]
            if [row.get(SERIES) for row in rows] != series:
                raise ValueError(f"expected a row for each of {len(series)} series, in order")
            return rows
        except Exception as error:  # whatever the model's own code raises
            if len(series) == 1:
                text = f"model_failed: {type(error).__name__}: {_one_line(error)}"
                return [{SERIES: series[0], "error": text}]
        return [self._alone(slices, name) for name in series]

    def _alone(self, slices: Any, series: str) -> Row:
        """Return the answer for one of several series."""
        own = np.flatnonzero(slices[SERIES] == series)
        row = self.series_rows(slices.iloc[own].reset_index(drop=True))[0]
        key = row.get("key_slice")
        return row if key is None else row | {"key_slice": int(own[int(key)])}


def _series_model(model: Any) -> Any:
    """Return a pyfunc's own object if it answers series, else None.

    It then takes the parameter `series` and has the methods `series_plan`, from headers to the
    series and position of each slice, and `series_rows`, from rows to one answer per series.
    """
    params = model.metadata.get_params_schema()
    if params is None or SERIES not in {param.name for param in params.params}:
        return None
    try:
        own = model.unwrap_python_model()
    except Exception:  # MLflow's own exception, where it is no Python model
        return None
    return own if hasattr(own, "series_rows") and hasattr(own, "series_plan") else None


def _plain(value: Any) -> str | bool | int | float | None:
    """Return a number or a text as it is, anything else as JSON."""
    if isinstance(value, np.generic):
        value = value.item()
    return value if type(value) in PLAIN else json.dumps(value, default=str)


def _first_cause(error: BaseException) -> BaseException:
    """Return what the model's own code raised, which MLflow wraps."""
    while (cause := error.__cause__) is not None:
        error = cause
    return error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:MAX_ERROR_CHARACTERS]
