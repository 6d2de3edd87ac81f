"""The MLflow pyfunc: what loader.py gives to MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import pandas as pd

from .scorer import HEATMAP, Scorer

OWN_THRESHOLD = -1.0  # the parameter's default: MLflow's parameters have no null


class ChestCT(mlflow.pyfunc.PythonModel):  # type: ignore[misc]  # MLflow has no types
    """A DataFrame with the column `image` in, a DataFrame with a row per scan out."""

    def load_context(self, context: Any) -> None:
        """Load the network, once per process."""
        self._scorer = Scorer(Path(context.artifacts["network"]))

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Score scans.

        Args:
            context: MLflow's, unused after loading.
            model_input: column `image`: a file's bytes, or base64 text of them.
            params: `threshold` (0-1) overrides the model's own; -1 keeps it. `explain` adds the
                column `heatmap`.

        Returns:
            One row per input row, in order: `label`, `probability`, `p_<class>` for each class,
            `error`, `out_of_domain`, `undecided`, `error_code` and, when asked for, `heatmap`
            (base64 of a PNG).
            The columns are objects, so that what is missing is None, never NaN.

        Raises:
            ValueError: the threshold is none.
        """
        wanted = params or {}
        threshold, explain = wanted.get("threshold", OWN_THRESHOLD), wanted.get("explain", False)
        if threshold != OWN_THRESHOLD and not 0 <= threshold <= 1:
            raise ValueError(
                f"Expected a threshold from 0 to 1 (or {OWN_THRESHOLD:g} for the model's own); "
                f"received {threshold:g}."
            )
        rows = self._scorer.rows(
            list(model_input["image"]),
            threshold=None if threshold == OWN_THRESHOLD else threshold,
            explain=explain,
        )
        columns = [*self._scorer.columns, HEATMAP] if explain else self._scorer.columns
        return pd.DataFrame(rows, columns=columns, dtype=object)
