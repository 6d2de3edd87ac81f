"""The recipes' tables in Markdown, as the decision records show them: for benchmarks/recipe.py."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.recipe_scans import DIRECTIONS

ARROWS = tuple(
    direction.replace("kaggle", "Kaggle").replace("iq", "IQ").replace(" to ", " → ")
    for direction in DIRECTIONS
)
POOLINGS = {"root": "", "average": "average ", "top": "largest eighth ", "max": "maximum "}


def blocks(features: str) -> str:
    """Name poolings that are joined: `root4+top5` is "4 + largest eighth 5"."""
    parts = (re.fullmatch(r"([a-z]+)(\d)", part) for part in features.split("+"))
    return " + ".join(f"{POOLINGS[p[1]]}{p[2]}" if p else features for p in parts)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table; its last lines end without a new line."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def with_interval(area: dict[str, Any] | None) -> str:
    """Write an area under the curve and its 95 % interval; a dash where none was measured."""
    if area is None:
        return "–"
    if area["ci95"] is None:
        return f"{area['auc']:.3f}"
    low, high = area["ci95"]
    return f"{area['auc']:.3f} ({low:.2f}–{high:.2f})"


def recipes(rows: Iterable[dict[str, Any]], default: tuple[str, str, str]) -> str:
    """Write a row per recipe, the best worst direction first.

    Args:
        rows: of `recipe_table.Table`.
        default: pixels, features and head of the default recipe, which is printed bold.
    """
    found = []
    for row in sorted(rows, key=lambda row: -row["worst"]):
        head = re.sub(" weighs? the same", " alike", row["head"])
        cells = [row["words"], blocks(row["features"]), head]
        cells += [with_interval(row["auc"][direction]) for direction in DIRECTIONS]
        cells += [f"{row['worst']:.3f}", f"{row['kernel_changes'][DIRECTIONS[0]]:.2f}"]
        cells.append(f"{row['within_zip']['balanced_accuracy']:.3f}")
        if (row["pixels"], row["features"], row["head"]) == default:
            cells = [f"**{cell}**" for cell in cells]
        found.append(cells)
    header = ("Pixels", "Features", "Head", *ARROWS, "Worst", "Kernels", "Within zip")
    return table(header, found)


def nested(pools: dict[str, dict[str, Any]]) -> str:
    """Write what the choice within each set of recipes is worth on the other halves."""
    rows = []
    for name, pool in pools.items():
        said = re.sub(r"root[\w+]*", lambda found: f"block {blocks(found[0])}", name)
        cells = [f"{said} ({pool['recipes']})"]
        cells += [f"{pool['auc_on_other_halves'][direction]:.3f}" for direction in DIRECTIONS]
        rows.append([*cells, f"{pool['mean_of_worst']:.3f}"])
    return table(("Chosen among", *ARROWS, "Mean of the worst"), rows)


def by_speed(rows: Iterable[dict[str, Any]]) -> str:
    """Write area against speed, which is relative to the 224 px network with block 5's maps."""
    found = [
        [
            f"{row['side']} px", blocks(row["features"]), f"{row['words']}, {row['head']}",
            f"{row['relative_speed']:.2f}", f"{row['worst']:.3f}", f"{row['larger_pair']:.3f}",
            "yes" if row["cheapest_near_the_best"] else "",
        ]
        for row in rows
    ]  # fmt: skip
    header = (
        "Side", "Features", "Best recipe", "Scans per second, 224 px network = 1",
        "Worst direction", "Worse one of the larger pair", "Cheapest within 0.01 of the best",
    )  # fmt: skip
    return table(header, found)


def fine_tuned(rows: Iterable[dict[str, Any]]) -> str:
    """Write a row per training of block 5 and head."""
    found = []
    for row in rows:
        cells = [row["name"], row["head"]]
        cells += [with_interval(row["auc"].get(direction)) for direction in DIRECTIONS]
        changes = (row["kernel_changes"].get(direction) for direction in DIRECTIONS[:2])
        found.append([*cells, *("–" if c is None else f"{c:.2f}" for c in changes)])
    header = ("Block 5, full precision", "Head", *ARROWS, "Kernels, zip", "Kernels, IQ")
    return table(header, found)
