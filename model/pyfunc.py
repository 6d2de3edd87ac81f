"""The MLflow pyfunc: what loader.py gives to MLflow."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd

from .scorer import ATTENTION, HEATMAP, Scorer
from .series import SERIES, SeriesRows
from .series_scoring import OWN_COLUMNS, place_of, scored_series, series_name

OWN_THRESHOLD = -1.0  # the parameter's default: MLflow's parameters have no null


class ChestCT(mlflow.pyfunc.PythonModel):  # type: ignore[misc]  # MLflow has no types
    """A DataFrame with the column `image` in, a DataFrame with a row per scan out."""

    def load_context(self, context: Any) -> None:
        """Load the network, once per process."""
        self._scorer = Scorer(Path(context.artifacts["network"]))
        card = self._scorer.card
        self._series = SeriesRows(
            card.classes, card.healthy_classes, card.series, card.series_spacing_mm
        )

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Score scans.

        Args:
            context: MLflow's, unused after loading.
            model_input: column `image`: a file's bytes, or base64 text of them; and optionally
                `series`: rows with the same text are slices of one series, null of none.
            params: `threshold` (0-1) overrides the model's own for slices; -1 keeps it. `explain`
                adds the column `heatmap`. `series` takes each DICOM's own SeriesInstanceUID where
                the column does not say.

        Returns:
            One row per input row, in order: `label`, `probability`, `p_<class>` for each class,
            `error`, `out_of_domain`, `undecided`, `error_code` and, when asked for, `heatmap`
            (base64 of a PNG). With the column or the parameter `series` also
            `series_scoring.OWN_COLUMNS` and, of models that need it, `attention`. The columns are
            objects, so that what is missing is None, never NaN.

        Raises:
            ValueError: the threshold, or a cell of `series`, is none.
        """
        wanted = params or {}
        threshold, explain = wanted.get("threshold", OWN_THRESHOLD), wanted.get("explain", False)
        if threshold != OWN_THRESHOLD and not 0 <= threshold <= 1:
            raise ValueError(
                f"Expected a threshold from 0 to 1 (or {OWN_THRESHOLD:g} for the model's own); "
                f"received {threshold:g}."
            )
        score = partial(
            self._scorer.rows,
            threshold=None if threshold == OWN_THRESHOLD else threshold,
            explain=explain,
        )
        columns = [*self._scorer.columns, *([HEATMAP] if explain else [])]
        images, own = list(model_input["image"]), bool(wanted.get("series", False))
        if SERIES not in model_input.columns and not own:
            return pd.DataFrame(score(images), columns=columns, dtype=object)
        given = model_input[SERIES] if SERIES in model_input.columns else [None] * len(images)
        names = [series_name(value) for value in given]
        found = self._scorer.each(place_of, images)
        if own:
            names = [n or at.series for n, at in zip(names, found, strict=True)]
        rows = scored_series(images, names, found, score, self._series)
        more = [ATTENTION] if self._scorer.has_attention else []
        return pd.DataFrame(rows, columns=[*columns, *OWN_COLUMNS, *more], dtype=object)

    def series_rows(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Answer each series from rows that `predict` made, without pixels.

        Args:
            rows: with the columns of `predict`, in any order; further ones do not matter. They may
                come from several calls.

        Returns:
            One row per series, in order of first appearance; see docs/series.md.

        Raises:
            ValueError: a column is missing.
        """
        return self._series.answers(rows)
