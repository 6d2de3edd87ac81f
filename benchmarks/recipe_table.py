"""The table of recipes: rows, the choice nested in halves, areas against speed.

For benchmarks/recipe.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.recipe_heads import SERVED, Fit, nested_worst
from benchmarks.recipe_judge import Judge, Scores
from benchmarks.recipe_pixels import Variant
from benchmarks.recipe_scans import DIRECTIONS
from model.contrast import AIR_LEVEL, TISSUE_LEVEL

BODY = Variant()
SERVED_CONTRAST = f"medians {AIR_LEVEL}-{TISSUE_LEVEL}"
SERVED_PIXELS = Variant(contrast=SERVED_CONTRAST)
FULL = ("root5", "root4+root5")  # every head
FEW_HEADS = (
    "logistic, L2 1", "shrunk LDA 0.95", "shrunk LDA 0.98", "whitened 0.92, L2 30",
    "whitened 0.95, L2 30",
)  # fmt: skip
WITHIN = 0.01  # of the best worst direction: the cheapest input so near is the one to take


def pool_names(row: dict[str, Any]) -> list[str]:
    """Name the sets of recipes, among which the choice is nested, that a row belongs to."""
    names = ["all"]
    if row["side"] == BODY.side and "passes" not in row["pixels"]:
        names.append("224 px, one pass")
        contrasts = {
            "any medians": "medians" in row["pixels"],
            "stretched": row["pixels"] == BODY.name,
        }
        names += [
            f"224 px, body, {name}, {row['features']}" for name, is_so in contrasts.items() if is_so
        ]
    return names


class Table:
    """The rows so far."""

    def __init__(self, judge: Judge) -> None:
        """Start empty."""
        self._judge = judge
        self.rows: list[dict[str, Any]] = []
        self.scored: list[Scores] = []

    def add(
        self,
        variant: Variant,
        names: tuple[str, str, str],
        fit: Fit,
        own: NDArray[np.float32],
        **more: Any,
    ) -> None:
        """Judge a recipe and print its row."""
        scored, changes = self._judge.scores(fit, own, **more)
        row = dict(zip(("pixels", "features", "head"), names, strict=True)) | {"side": variant.side}
        row |= self._judge.described(scored, changes)
        row["within_zip"] = self._judge.within_zip(fit, own, **more)
        served = next((one for one in SERVED if one.name == names[2]), None)
        if served and names[2] in FEW_HEADS and more.get("lent") is None:
            row["within_zip"] |= self._judge.within_zip_as_served(served, own)
        self.rows.append(row)
        self.scored.append(scored)
        areas = " ".join(f"{value['auc']:.3f}" for value in row["auc"].values())
        changed = " ".join(f"{value:.2f}" for value in row["kernel_changes"].values())
        inside = " ".join(f"{value:.3f}" for value in row["within_zip"].values())
        click.echo(
            f"{' | '.join(names):90s} {areas}  worst {row['worst']:.3f}  kernels {changed}  "
            f"zip {inside}",
            err=True,
        )

    def nested(self, pool: str) -> dict[str, Any]:
        """Choose in one set of rows on half of the groups, measure on the other half."""
        places = [place for place, row in enumerate(self.rows) if pool in pool_names(row)]
        judge = self._judge
        sick = [judge.sick[target] for _, target in judge.pairs]
        groups = [judge.groups[target] for _, target in judge.pairs]
        chosen, published = nested_worst([self.scored[i] for i in places], sick, groups)
        names = [
            " | ".join(self.rows[i][k] for k in ("pixels", "features", "head")) for i in places
        ]
        by_count = sorted(chosen.items(), key=lambda pair: -pair[1])
        return {
            "recipes": len(places),
            "chosen": {names[i]: count for i, count in by_count},
            "auc_on_other_halves": dict(
                zip(DIRECTIONS, np.mean(published, axis=0).tolist(), strict=True)
            ),
            "worst_of_means": float(np.mean(published, axis=0).min()),
            "mean_of_worst": float(np.min(published, axis=1).mean()),
        }

    def nested_in_pools(self) -> dict[str, Any]:
        """Choose in each set of rows, see `pool_names`."""
        names = dict.fromkeys(name for row in self.rows for name in pool_names(row))
        return {name: self.nested(name) for name in names}


def by_speed(rows: list[dict[str, Any]], speeds: dict[int, float]) -> list[dict[str, Any]]:
    """Return the best body-crop recipe of each input size and features, with its speed."""

    def best() -> Iterator[dict[str, Any]]:
        for side, speed in speeds.items():
            by_contrast = {
                Variant(contrast=contrast, side=side).name
                for contrast in (BODY.contrast, SERVED_CONTRAST)
            }
            for pooling in FULL:
                own = [
                    row
                    for row in rows
                    if row["side"] == side
                    and row["features"] == pooling
                    and row["pixels"] in by_contrast
                    and row["head"] in FEW_HEADS
                ]
                if own:
                    top = max(own, key=lambda row: row["worst"])
                    yield {
                        "side": side, "features": pooling, "scans_per_s": speed,
                        "pixels": top["pixels"], "head": top["head"], "worst": top["worst"],
                    }  # fmt: skip

    table = list(best())
    limit = max((row["worst"] for row in table), default=0.0) - WITHIN
    near = [row for row in table if row["worst"] >= limit]
    cheapest = max(near, key=lambda row: (row["scans_per_s"], row["worst"]), default=None)
    click.echo("\nside features     head                    scans/s worst AUC", err=True)
    for row in table:
        mark = "  cheapest within 0.01 of the best" if row is cheapest else ""
        click.echo(
            f"{row['side']:>4} {row['features']:12} {row['head']:22} {row['scans_per_s']:>8.1f} "
            f"{row['worst']:>9.3f}{mark}",
            err=True,
        )
    return table
