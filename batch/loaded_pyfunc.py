"""A pyfunc in this process: loaded, asked for its columns, asked for rows."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np

from batch.faults import CannotRunError
from batch.pyfunc import quiet_mlflow
from batch.table.parts import model_column_type

# 32 x 32 grey pixels, to see the model's columns before any scan is read.
PROBE_PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAACAAAAAgCAAAAABWESUoAAAANUlEQVR42mNg4BCQUNAwsHDw"
    "CIhIyCioaOiYMGPBig07Dpy4cOPBiw8/GEYVjCoYVTBSFQAAl2zwEJjgKNwAAAAASUVORK5C"
    "YII="
)
MAX_ERROR_CHARACTERS = 500
PLAIN = (str, bool, int, float, type(None))

Row = dict[str, Any]


class LoadedPyfunc:
    """A loaded pyfunc. `columns` maps its columns to their types, in its order."""

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
        self.columns = self._probe()

    def _probe(self) -> dict[str, str]:
        try:
            frame = self._predict([b"", PROBE_PNG])
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
        return {name: model_column_type(name, declared.get(name), example[name]) for name in names}

    def _predict(self, images: list[bytes]) -> Any:
        import pandas as pd

        frame = self.model.predict(pd.DataFrame({"image": pd.Series(images, dtype=object)}))
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
            return [{str(k): _plain(v) for k, v in row.items()} for row in rows]
        except Exception as error:  # whatever the model's own code raises
            if len(images) == 1:
                return [{"error": f"model_failed: {type(error).__name__}: {_one_line(error)}"}]
        return [row for image in images for row in self.score([image])]


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
