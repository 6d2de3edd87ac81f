"""Which recipe carries over to scans of another source?

Trains heads on one collection and scores another one, both ways, for many recipes: crop, contrast,
smoothing, input size, borrowed grey levels, pooling, block, weights, head. The collections are zips
with class folders: the tutorials' public zip, the other cancers of the same public collection, a
part of IQ-OTH/NCCD, and, for int8's ranges and the paired kernels, Lung-PET-CT-Dx and LIDC-IDRI.
The table goes to standard error, everything to standard output as JSON. Features are kept: a run
that was ended goes on where it was.

    python -m benchmarks.recipe --weights imagenet --data folder-of-zips --cache kept-features
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.recipe_features import Arrays, features, int8_network, scans_per_second
from benchmarks.recipe_heads import heads
from benchmarks.recipe_judge import Judge
from benchmarks.recipe_pixels import MEDIANS_AT, Variant
from benchmarks.recipe_scans import CALIBRATION, is_judged, read_scans
from benchmarks.recipe_table import (
    BODY,
    FEW_HEADS,
    FULL,
    SERVED_CONTRAST,
    SERVED_PIXELS,
    Table,
    by_speed,
)
from model.tensors import Tensor
from model.weights import file_tensors, imagenet_tensors

VARIANTS = (
    BODY,
    Variant(crop="fixed"),
    Variant(crop="lungs"),
    Variant(crop="aspect"),
    Variant(smoothing="soft"),
    Variant(smoothing="gauss"),
    Variant(smoothing="down"),
    Variant(contrast="quantiles"),
    Variant(contrast="equalised"),
    *(Variant(contrast=contrast) for contrast in MEDIANS_AT),
    Variant(side=320),
    Variant(side=448),
    *(Variant(contrast=SERVED_CONTRAST, side=side) for side in (320, 448)),
)
LENT = tuple(Variant(donors=donors) for donors in ("own", "class", "sources"))
SMOOTHED = Variant(smoothing="soft")
CROPS_TOGETHER = (BODY, Variant(crop="lungs"))
VECTORS = (
    "root5", "average5", "top5", "max5", "root4", "top4", "root5+top5", "root4+top4",
    "root4+root5", "root3+root4+root5", "root4+root5+top4+top5",
)  # fmt: skip


def vectors(arrays: Arrays, name: str) -> NDArray[np.float32]:
    """Join the poolings that a name lists with plus signs."""
    return np.concatenate([arrays[part] for part in name.split("+")], axis=1)


def fill(table: Table, known: Callable[[Variant], Arrays], only: tuple[str, ...]) -> None:
    """Add every recipe's row, one variant of the pixels after the other."""

    def wanted(variant: Variant) -> bool:
        return not only or variant.name in only

    for variant in filter(wanted, VARIANTS):
        arrays = known(variant)
        plain = variant in (BODY, SERVED_PIXELS)
        for pooling in VECTORS if variant == SERVED_PIXELS else FULL:
            own = vectors(arrays, pooling)
            compared = variant == BODY and pooling in FULL
            smoothed = vectors(known(SMOOTHED), pooling) if compared else None
            for head, fit in heads().items():
                if "smoothing" in head and smoothed is None:
                    continue
                if head in FEW_HEADS or (plain and pooling in FULL):
                    table.add(variant, (variant.name, pooling, head), fit, own, smoothed=smoothed)
    for variant in filter(wanted, LENT):
        for pooling in FULL:
            own, lent = vectors(known(BODY), pooling), vectors(known(variant), pooling)
            for head in FEW_HEADS:
                table.add(variant, (variant.name, pooling, head), heads()[head], own, lent=lent)
    if not only:
        for pooling in FULL:
            both = np.concatenate(
                [vectors(known(crop), pooling) for crop in CROPS_TOGETHER], axis=1
            )
            for head in FEW_HEADS:
                name = "body and lungs, two passes"
                table.add(BODY, (name, pooling, head), heads()[head], both)


@click.command(help=__doc__)
@click.option("--data", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--cache", type=click.Path(path_type=Path), default=Path("artifacts/recipe"))
@click.option("--weights", default="imagenet", help="imagenet, or a file of VGG16 without top.")
@click.option("--only", multiple=True, help="Names of pixel variants; all without it.")
@click.option("--fine-tune", is_flag=True, help="Train the last block as well; minutes more.")
def main(data: Path, cache: Path, weights: str, only: tuple[str, ...], fine_tune: bool) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    every = read_scans(data, cache)
    calibration = [scan for scan in every if scan.source in CALIBRATION]
    scans = [scan for scan in every if is_judged(scan)]
    judge = Judge(scans)
    tensors: list[Tensor] = []

    def base() -> list[Tensor]:
        if not tensors:
            tensors.extend(
                imagenet_tensors(lambda text: click.echo(text, err=True))
                if weights == "imagenet"
                else file_tensors(Path(weights))
            )
        return tensors

    def network(side: int) -> Path:
        return int8_network(base(), side, calibration, cache)

    def known(variant: Variant) -> Arrays:
        return features(scans, every, variant, lambda: network(variant.side), cache)

    table = Table(judge)
    fill(table, known, only)
    sides = sorted({row["side"] for row in table.rows})
    speeds = {side: scans_per_second(network(side), side) for side in sides}
    result: dict[str, Any] = {
        "scans": judge.counts(),
        "recipes": sorted(table.rows, key=lambda row: -row["worst"]),
        "by_speed": by_speed(table.rows, speeds),
        "nested": table.nested_in_pools(),
    }
    if fine_tune:
        from benchmarks.recipe_fine_tuned import fine_tuned_areas

        result["fine_tuned"] = fine_tuned_areas(scans, judge, base(), cache)
    click.echo(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
