"""Which recipe carries over to scans of another source?

Trains heads on one collection and scores another one, both ways, for many recipes: crop, contrast,
smoothing, input size, borrowed grey levels, pooling, block, weights, head. The collections are zips
with class folders: the tutorials' public zip, the other cancers of the same public collection, a
part of IQ-OTH/NCCD, and, for int8's ranges and the paired kernels, Lung-PET-CT-Dx and LIDC-IDRI.
The tables go to standard output in Markdown, a line per recipe to standard error while it runs,
and everything to recipe.json in the cache. Features are kept: a run that was ended goes on where it
was.

    python -m benchmarks.recipe --weights imagenet --data folder-of-zips --cache kept-features
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks import recipe_printed as printed
from benchmarks.recipe_features import Arrays, features, int8_network
from benchmarks.recipe_heads import heads
from benchmarks.recipe_judge import Judge
from benchmarks.recipe_pixels import MEDIANS_AT, SMOOTHED_IN_WORDS, Variant
from benchmarks.recipe_scans import CALIBRATION, is_judged, read_scans
from benchmarks.recipe_speed import REFERENCE, relative_speeds
from benchmarks.recipe_table import (
    BODY,
    DEFAULT,
    FEW_HEADS,
    FULL,
    MANY_HEADS,
    SERVED_CONTRAST,
    SERVED_PIXELS,
    Table,
    by_speed,
)
from model.tensors import Tensor
from model.weights import file_tensors, imagenet_tensors

RESULT = "recipe.json"  # in the cache
CONTRASTS = ("quantiles", "equalised", *MEDIANS_AT)
VARIANTS = tuple(
    dict.fromkeys(
        (
            SERVED_PIXELS,
            BODY,
            Variant(crop="fixed"),
            Variant(crop="lungs"),
            Variant(crop="aspect", contrast=SERVED_CONTRAST),
            *(Variant(contrast=contrast) for contrast in CONTRASTS),
            *(Variant(smoothing=kind) for kind in SMOOTHED_IN_WORDS),
            *(Variant(contrast=SERVED_CONTRAST, smoothing=kind) for kind in SMOOTHED_IN_WORDS),
            *(Variant(side=side) for side in (320, 448)),
            *(Variant(contrast=SERVED_CONTRAST, side=side) for side in (320, 448)),
        )
    )
)
LENT = tuple(
    Variant(contrast=SERVED_CONTRAST, donors=donors) for donors in ("own", "class", "sources")
)
COMPARED_SMOOTHED = {  # features of the same pixels smoothed, for heads that look away from it
    BODY: Variant(smoothing="soft"),
    SERVED_PIXELS: Variant(contrast=SERVED_CONTRAST, smoothing="soft"),
}
CROPS_TOGETHER = (BODY, Variant(crop="lungs"))
POOLINGS = (
    "average5", "top5", "max5", "root4", "top4", "root5+top5", "root4+top4", "root3+root4+root5",
    "root4+root5+top4+top5",
)  # fmt: skip
HEADS = heads()


def vectors(arrays: Arrays, name: str) -> NDArray[np.float32]:
    """Join the poolings that a name lists with plus signs."""
    return np.concatenate([arrays[part] for part in name.split("+")], axis=1)


def heads_of(variant: Variant, pooling: str) -> list[str]:
    """Choose the heads that are compared on a variant's features: all of them on the default's."""
    if (variant.name, pooling) == DEFAULT[:2]:
        return list(HEADS)
    if variant in COMPARED_SMOOTHED and pooling in FULL:
        return [name for name in HEADS if name in MANY_HEADS or "smoothing" in name]
    return list(FEW_HEADS)


def fill(table: Table, known: Callable[[Variant], Arrays], only: tuple[str, ...]) -> None:
    """Add every recipe's row, one variant of the pixels after the other."""

    def wanted(variant: Variant) -> bool:
        return not only or variant.name in only

    for variant in filter(wanted, VARIANTS):
        arrays = known(variant)
        for pooling in (*FULL, *POOLINGS) if variant == SERVED_PIXELS else FULL:
            own = vectors(arrays, pooling)
            for head in heads_of(variant, pooling):
                more = {}
                if "smoothing" in head:
                    more["smoothed"] = vectors(known(COMPARED_SMOOTHED[variant]), pooling)
                table.add(variant, (variant.name, pooling, head), HEADS[head], own, **more)
    for variant in filter(wanted, LENT):
        for pooling in FULL:
            own, lent = (vectors(known(v), pooling) for v in (SERVED_PIXELS, variant))
            for head in FEW_HEADS:
                table.add(variant, (variant.name, pooling, head), HEADS[head], own, lent=lent)
    if not only:
        for pooling in FULL:
            both = np.concatenate(
                [vectors(known(crop), pooling) for crop in CROPS_TOGETHER], axis=1
            )
            for head in FEW_HEADS:
                names = ("body and lungs", pooling, head)
                words = "body and lungs, two passes, stretched"
                table.add(BODY, names, HEADS[head], both, words)


def tables(result: dict[str, Any]) -> Iterable[str]:
    """Write the result as the decision record shows it."""
    yield printed.recipes(result["recipes"], DEFAULT)
    yield printed.nested(result["nested"])
    if result["by_speed"]:
        yield printed.by_speed(result["by_speed"])
    if result["fine_tuned"]:
        yield printed.fine_tuned(result["fine_tuned"])


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
    sides = sorted({REFERENCE[0]} | {row["side"] for row in table.rows})
    speeds = relative_speeds({side: network(side) for side in sides}, FULL)
    result: dict[str, Any] = {
        "scans": judge.counts(),
        "recipes": table.rows,
        "nested": table.nested_in_pools(),
        "by_speed": by_speed(table.rows, speeds),
        "fine_tuned": [],
    }
    if fine_tune:
        from benchmarks.recipe_fine_tuned import fine_tuned_rows

        result["fine_tuned"] = fine_tuned_rows(scans, judge, base(), cache)
    (cache / RESULT).write_text(json.dumps(result, indent=1), encoding="utf-8")
    click.echo("\n\n".join(tables(result)))


if __name__ == "__main__":
    main()
