"""The table of recipes: rows, the choice nested in halves, areas against speed.

For benchmarks/recipe.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
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
SERVED_HEAD = "whitened 0.92, L2 30"
DEFAULT = (SERVED_PIXELS.name, "root5", SERVED_HEAD)
SIDES = (224, 320, 448)
FULL = ("root5", "root4+root5")  # the features of most variants
FEW_HEADS = ("shrunk LDA 0.98", SERVED_HEAD, "whitened 0.95, L2 30")
MANY_HEADS = (
    *FEW_HEADS, "logistic, L2 1", "shrunk LDA 0.9", "shrunk LDA 0.95", "shrunk LDA 0.99",
    "whitened 0.9, L2 30", "whitened 0.92, L2 100", "whitened 0.98, L2 100", "class means",
    "logistic, L2 1, class x source weighs the same",
    "whitened 0.98, L2 30, class x source weighs the same",
    "shrunk LDA 0.98, class x source weighs the same",
    "shrunk LDA 0.98, classes weigh the same",
)  # fmt: skip
WITHIN = 0.01  # of the best worst direction: the cheapest input so near is the one to take
LARGER_PAIR = DIRECTIONS[2:]


def pool_names(row: dict[str, Any]) -> list[str]:
    """Name the sets of recipes, among which the choice is nested, that a row belongs to."""
    names = ["all"]
    pixels, features = row["pixels"], row["features"]
    if features not in FULL:
        return names
    if pixels == BODY.name:
        names.append(f"stretched, {features}")
    if pixels.startswith("body-medians") and pixels.endswith(f"-none-{BODY.side}-none"):
        names.append(f"any medians, {features}")
    if row["head"] in FEW_HEADS:
        alone = (SERVED_PIXELS, dataclasses.replace(SERVED_PIXELS, crop="aspect"))
        names += [f"{v.words}, {features}" for v in alone if pixels == v.name]
        names += [
            f"{side} px, {features}, as every size has it"
            for side in SIDES
            if pixels in _at_every_size(side)
        ]
    return names


def _at_every_size(side: int) -> list[str]:
    """Name the pixels that are compared at every input size."""
    return [Variant(contrast=c, side=side).name for c in (BODY.contrast, SERVED_CONTRAST)]


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
        words: str = "",
        **more: Any,
    ) -> None:
        """Judge a recipe and print its row."""
        scored, changes = self._judge.scores(fit, own, **more)
        row: dict[str, Any] = dict(zip(("pixels", "features", "head"), names, strict=True))
        row |= {"words": words or variant.words, "side": variant.side}
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


def by_speed(
    rows: Iterable[dict[str, Any]], speeds: dict[tuple[int, str], float]
) -> list[dict[str, Any]]:
    """Return the best recipe of each input size and features, with its speed.

    Args:
        rows: of the table.
        speeds: by side and features, relative to the default network.

    Returns:
        Of the contrasts and heads that every size has; the cheapest input within WITHIN of the best
        worst direction is marked.
    """

    def best() -> Iterator[dict[str, Any]]:
        for (side, features), speed in speeds.items():
            own = [
                row
                for row in rows
                if row["pixels"] in _at_every_size(side)
                and row["features"] == features
                and row["head"] in FEW_HEADS
            ]
            if own:
                top = max(own, key=lambda row: row["worst"])
                yield {
                    "side": side,
                    "features": features,
                    "relative_speed": speed,
                    "larger_pair": min(top["auc"][name]["auc"] for name in LARGER_PAIR),
                    "cheapest_near_the_best": False,
                } | {key: top[key] for key in ("pixels", "words", "head", "worst")}

    rows = list(rows)
    found = list(best())
    limit = max((row["worst"] for row in found), default=0.0) - WITHIN
    near = [row for row in found if row["worst"] >= limit]
    if near:
        fastest = max(near, key=lambda row: (row["relative_speed"], row["worst"]))
        fastest["cheapest_near_the_best"] = True
    return found
