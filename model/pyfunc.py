"""The MLflow pyfunc: what loader.py gives to MLflow."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd

from .pixels import slice_pixels
from .scorer import ATTENTION, HEATMAP, Scorer
from .series import SERIES, SeriesRows
from .series_scoring import OWN_COLUMNS, Place, place_of, plan, scored_series, series_name

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
        images, own = list(model_input["image"]), bool(wanted.get(SERIES, False))
        if SERIES not in model_input.columns and not own:
            return pd.DataFrame(score(images), columns=columns, dtype=object)
        given = list(model_input[SERIES]) if SERIES in model_input.columns else None
        names, found = self._places(images, given, own=own)
        rows = scored_series(images, names, found, score, self._series)
        more = [ATTENTION] if self._scorer.has_attention else []
        return pd.DataFrame(rows, columns=[*columns, *OWN_COLUMNS, *more], dtype=object)

    def series_plan(
        self, images: Sequence[object], series: Sequence[object] | None = None
    ) -> pd.DataFrame:
        """Tell from headers alone which slices `predict` will skip.

        Args:
            images: bytes of files, or base64 text of them; their starts, up to the pixels, do.
            series: the column `series`; None takes each DICOM's own SeriesInstanceUID.

        Returns:
            `series`, `position_mm`, `skipped` and `study` (StudyInstanceUID) of each slice, in
            order. A slice that cannot be scored gives its place to the next, so `predict` may skip
            fewer.

        Raises:
            ValueError: a cell of `series` is neither text nor null.
        """
        names, found = self._places(images, series, own=series is None)
        return plan(names, found, self._series.spacing_mm)

    def _places(
        self, images: Sequence[object], given: Sequence[object] | None, *, own: bool
    ) -> tuple[list[str | None], list[Place]]:
        """Return the series of each slice, and what its header says."""
        named = [series_name(cell) for cell in given or [None] * len(images)]
        found = self._scorer.each(place_of, images)
        if own:
            named = [name or at.series for name, at in zip(named, found, strict=True)]
        return named, found

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

    def pixels(self, image: bytes | str) -> dict[str, Any]:
        """Return the pixels that a slice is scored from; see `pixels.slice_pixels`."""
        return slice_pixels(image)
