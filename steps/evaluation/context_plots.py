"""Pictures and tables of what puts a score into context, for MLflow, the report and `dvc plots`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from model.decoding.scan_file import decode_grey
from scans.manifest import ManifestRow
from steps.training.calibration import BINS, reliability, without_temperature

SHOWN_GROUPS = 8
SHOWN_SCANS = 6  # of one group
THUMBNAIL_PX = 112


def write_context(
    folder: Path,
    data: Path,
    rows: Sequence[ManifestRow],
    scores: Mapping[str, Any],
    actual: NDArray[np.int64],
    p: NDArray[np.float64],
    temperature: float,
) -> None:
    """Write all of this module's files into a folder; arguments as below."""
    write_reliability(folder, actual, p, temperature)
    write_stress(folder, scores.get("stress", {}))
    write_contact_sheet(folder, data, rows)


def write_reliability(
    folder: Path, actual: NDArray[np.int64], p: NDArray[np.float64], temperature: float
) -> None:
    """Write reliability.csv and reliability.png: confidence against accuracy, test split.

    Args:
        folder: exists.
        actual: class indices (n,).
        p: calibrated probabilities (n, classes).
        temperature: that they were calibrated with.
    """
    tables = {
        "before": reliability(without_temperature(p, temperature), actual),
        "after": reliability(p, actual),
    }
    rows = [{"calibration": name, **row} for name, table in tables.items() for row in table]
    pd.DataFrame(rows).to_csv(folder / "reliability.csv", index=False)
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], linestyle=":", color="grey", label="perfect")
    for name, table in tables.items():
        points = pd.DataFrame(table)
        axes.plot(points["confidence"], points["accuracy"], marker="o", label=name)
        for x, y, n in points[["confidence", "accuracy", "n"]].itertuples(index=False):
            axes.annotate(f"{n:.0f}", (x, y), textcoords="offset points", xytext=(4, -10), size=7)
    axes.set(
        xlabel=f"confidence ({BINS} bins)",
        ylabel="accuracy",
        title="Reliability, test split (numbers: scans)",
    )
    axes.legend(loc="upper left")
    figure.savefig(folder / "reliability.png", dpi=120)


def write_stress(folder: Path, stress: Mapping[str, Any]) -> None:
    """Write stress.csv: one row per change."""
    rows = [{"change": name, **row} for name, row in stress.get("rows", {}).items()]
    columns = ["change", "balanced_accuracy", "accuracy", "same_answer", "flagged_out_of_domain"]
    pd.DataFrame(rows, columns=[*columns, "roc_auc", "n"]).to_csv(
        folder / "stress.csv", index=False
    )


def write_contact_sheet(folder: Path, data: Path, rows: Sequence[ManifestRow]) -> None:
    """Write near_duplicates.png: a line per group, the largest first.

    Args:
        folder: exists.
        data: folder of the manifest.
        rows: of all scans.
    """
    groups: dict[str, list[ManifestRow]] = defaultdict(list)
    for row in rows:
        groups[row.group].append(row)
    several = sorted((g for g in groups.values() if len(g) > 1), key=len, reverse=True)
    shown = several[:SHOWN_GROUPS]
    lines = max(len(shown), 1)
    sheet = Image.new("L", (SHOWN_SCANS * THUMBNAIL_PX, lines * THUMBNAIL_PX), 255)
    if not shown:
        ImageDraw.Draw(sheet).text((8, 8), "No two scans are so alike: each is its own group.", 0)
    for y, group in enumerate(shown):
        for x, row in enumerate(group[:SHOWN_SCANS]):
            grey = Image.fromarray(decode_grey((data / row.path).read_bytes()))
            small = grey.resize((THUMBNAIL_PX - 4, THUMBNAIL_PX - 4), Image.Resampling.BOX)
            sheet.paste(small, (x * THUMBNAIL_PX + 2, y * THUMBNAIL_PX + 2))
    sheet.save(folder / "near_duplicates.png")
