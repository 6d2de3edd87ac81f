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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.recipe_features import Arrays, features, int8_network, scans_per_second
from benchmarks.recipe_heads import SERVED, Fit, heads, nested_worst
from benchmarks.recipe_judge import Judge, Scores
from benchmarks.recipe_pixels import MEDIANS_AT, Variant
from benchmarks.recipe_scans import CALIBRATION, DIRECTIONS, is_judged, read_scans
from model.contrast import AIR_LEVEL, TISSUE_LEVEL
from model.tensors import Tensor
from model.weights import file_tensors, imagenet_tensors

BODY = Variant()
SERVED_CONTRAST = f"medians {AIR_LEVEL}-{TISSUE_LEVEL}"
SERVED_PIXELS = Variant(contrast=SERVED_CONTRAST)
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
FULL = ("root5", "root4+root5")  # every head
FEW_HEADS = (
    "logistic, L2 1", "shrunk LDA 0.95", "shrunk LDA 0.98", "whitened 0.92, L2 30",
    "whitened 0.95, L2 30",
)  # fmt: skip
WITHIN = 0.01  # of the best worst direction: the cheapest input so near is the one to take


def vectors(arrays: Arrays, name: str) -> NDArray[np.float32]:
    """Join the poolings that a name lists with plus signs."""
    return np.concatenate([arrays[part] for part in name.split("+")], axis=1)


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
        if served and not more.get("lent"):
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

    def nested(self, taken: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Choose among some of the rows on half of the groups, measure on the other half."""
        places = [place for place, row in enumerate(self.rows) if taken(row)]
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
        return features(scans, every, variant, network(variant.side), cache)

    table = Table(judge)
    fill(table, known, only)
    sides = sorted({row["side"] for row in table.rows})
    result: dict[str, Any] = {
        "scans": judge.counts(),
        "recipes": sorted(table.rows, key=lambda row: -row["worst"]),
        "by_speed": by_speed(table.rows, {s: scans_per_second(network(s), s) for s in sides}),
        "nested": {
            "all": table.nested(lambda row: True),
            "224 px, one pass": table.nested(
                lambda row: row["side"] == BODY.side and "passes" not in row["pixels"]
            ),
            "224 px, body stretched, block 5": table.nested(
                lambda row: (row["pixels"], row["features"]) == (BODY.name, "root5")
            ),
            "224 px, body stretched, blocks 4 and 5": table.nested(
                lambda row: (row["pixels"], row["features"]) == (BODY.name, "root4+root5")
            ),
            "224 px, any medians, block 5": table.nested(
                lambda row: (
                    row["side"] == BODY.side
                    and "medians" in row["pixels"]
                    and row["features"] == "root5"
                )
            ),
            "224 px, any medians, blocks 4 and 5": table.nested(
                lambda row: (
                    row["side"] == BODY.side
                    and "medians" in row["pixels"]
                    and row["features"] == "root4+root5"
                )
            ),
        }
        if not only
        else None,
    }
    if fine_tune:
        from benchmarks.recipe_fine_tuned import fine_tuned_areas

        result["fine_tuned"] = fine_tuned_areas(scans, judge, base(), cache)
    click.echo(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
