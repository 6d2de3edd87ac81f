"""Which recipe carries over to scans of another source?

Trains heads on one collection and scores another one, both ways, for many recipes: crop, contrast,
smoothing, input size, borrowed grey levels, pooling, block, head. The collections are zips with
class folders: the tutorials' public zip, the other cancers of the same public collection, a part
of IQ-OTH/NCCD, and, for int8's ranges and the paired kernels, Lung-PET-CT-Dx and LIDC-IDRI. The
table goes to standard error, everything to standard output as JSON.

    python -m benchmarks.recipe --weights imagenet --data folder-of-zips --cache kept-features
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.recipe_features import Arrays, Scan, Variant, features, int8_network, read_scans
from benchmarks.recipe_heads import Fit, area, area_interval, heads, nested_worst
from model.weights import file_tensors, imagenet_tensors

ARCHIVES = {
    "zip": "Chest-CT-Scan-data.zip",
    "others": "Chest-CT-Scan-other-cancers.zip",
    "iq": "IQ-OTHNCCD-part.zip",
    "lungdx": "Lung-Dx.zip",
    "lidc": "LIDC-small.zip",
    "covid": "COVID-19-NY-SBU.zip",
}
CALIBRATION = ("lungdx", "lidc")  # int8's ranges come from scans that no recipe is judged on
DIRECTIONS = ("zip to iq", "iq to zip", "kaggle to iq", "iq to kaggle")
VARIANTS = (
    Variant(),
    Variant(crop="fixed"),
    Variant(crop="lungs"),
    Variant(crop="aspect"),
    Variant(smoothing="gauss"),
    Variant(smoothing="down"),
    Variant(contrast="body"),
    Variant(contrast="equalised"),
    Variant(side=320),
    Variant(side=448),
)
LENT = tuple(Variant(donors=donors) for donors in ("own", "class", "sources"))
VECTORS = ("root5", "average5", "top5", "max5", "root4", "top4", "root4+root5", "root5+top5")
FEW_HEADS = ("logistic, L2 1", "shrunk LDA 0.9", "whitened 0.95, logistic, L2 30")


class Judge:
    """Knows which scans each direction trains on and which it scores."""

    def __init__(self, scans: list[Scan], groups: NDArray[np.int64]) -> None:
        """Find the collections' scans; benign findings take no part."""
        source = np.array([scan.source for scan in scans])
        label = np.array([scan.label for scan in scans])
        self.sick = (label != "normal").astype(np.int64)
        self.groups = groups
        of = {name: source == name for name in ARCHIVES}
        iq, kaggle = of["iq"] & (label != "benign"), of["zip"] | of["others"]
        self.pairs = [(of["zip"], iq), (iq, of["zip"]), (kaggle, iq), (iq, kaggle)]
        kernels: dict[str, dict[str, int]] = {}
        for place, scan in enumerate(scans):
            if scan.label.startswith("kernel-B"):
                kernels.setdefault(scan.name.split("/")[-1], {})[scan.label] = place
        both = [sorted(pair.items()) for pair in kernels.values() if len(pair) == 2]
        self.kernels = np.array([[place for _, place in pair] for pair in both]).reshape(-1, 2)

    def scores(
        self, fit: Fit, own: NDArray[np.float32], lent: NDArray[np.float32] | None = None
    ) -> tuple[list[NDArray[np.float64]], list[float]]:
        """Score every direction's target.

        Args:
            fit: the head.
            own: features of all scans.
            lent: features of the same scans with borrowed grey levels, to train on as well.

        Returns:
            By direction: the targets' scores, and the share of kernel pairs whose label changes.
        """
        scores, changes = [], []
        for train, target in self.pairs:
            features, sick = own[train], self.sick[train]
            if lent is not None:
                features, sick = np.concatenate([features, lent[train]]), np.tile(sick, 2)
            weights, bias = fit(features, sick)
            score = own.astype(np.float64) @ weights + bias
            scores.append(score[target])
            called = score[self.kernels] > 0
            changes.append(float((called[:, 0] != called[:, 1]).mean()))
        return scores, changes

    def row(self, name: tuple[str, ...], scored: Any) -> dict[str, Any]:
        """Describe one recipe: areas with intervals, the worst of them, changed labels."""
        scores, changes = scored
        row: dict[str, Any] = dict(zip(("pixels", "features", "head"), name, strict=True))
        areas = {}
        for direction, score, (_, target) in zip(DIRECTIONS, scores, self.pairs, strict=True):
            sick, groups = self.sick[target], self.groups[target]
            areas[direction] = {"auc": area(score, sick)}
            areas[direction]["ci95"] = area_interval(score, sick, groups)
        row["auc"] = areas
        row["worst"] = min(value["auc"] for value in areas.values())
        row["kernel_changes"] = dict(zip(DIRECTIONS, changes, strict=True))
        return row


def _is_judged(scan: Scan) -> bool:
    judged = scan.source in ("zip", "others", "iq") and scan.label != "benign"
    return judged or scan.label.startswith("kernel-B")


def vectors(arrays: Arrays, name: str) -> NDArray[np.float32]:
    """Join the poolings that a name lists with plus signs."""
    return np.concatenate([arrays[part] for part in name.split("+")], axis=1)


@click.command(help=__doc__)
@click.option("--data", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--cache", type=click.Path(path_type=Path), default=Path("artifacts/recipe"))
@click.option("--weights", default="imagenet", help="imagenet, or a file of VGG16 without top.")
@click.option("--only", multiple=True, help="Names of pixel variants; all without it.")
def main(data: Path, cache: Path, weights: str, only: tuple[str, ...]) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    every, of_every = read_scans({name: data / file for name, file in ARCHIVES.items()})
    calibration = [scan for scan in every if scan.source in CALIBRATION]
    places = [place for place, scan in enumerate(every) if _is_judged(scan)]
    scans, groups = [every[place] for place in places], of_every[places]
    judge = Judge(scans, groups)
    tensors: list[Any] = []

    def known(variant: Variant) -> Arrays:
        if not tensors:
            tensors.extend(
                imagenet_tensors(lambda text: click.echo(text, err=True))
                if weights == "imagenet"
                else file_tensors(Path(weights))
            )
        network = int8_network(tensors, variant.side, calibration, cache)
        return features(scans, variant, network, cache)

    rows, scored = [], []

    def add(name: tuple[str, ...], fit: Fit, own: Any, lent: Any = None) -> None:
        scored.append(judge.scores(fit, own, lent))
        rows.append(judge.row(name, scored[-1]))
        areas = " ".join(f"{value['auc']:.3f}" for value in rows[-1]["auc"].values())
        changed = " ".join(f"{value:.2f}" for value in rows[-1]["kernel_changes"].values())
        text = f"{' | '.join(name):75s} {areas}  worst {rows[-1]['worst']:.3f}  kernels {changed}"
        click.echo(text, err=True)

    for variant in VARIANTS:
        if only and variant.name not in only:
            continue
        arrays = known(variant)
        for pooling in VECTORS if variant == Variant() else ("root5", "root4+root5"):
            own = vectors(arrays, pooling)
            for head, fit in heads().items():
                if (variant == Variant() and pooling == "root5") or head in FEW_HEADS:
                    add((variant.name, pooling, head), fit, own)
    for variant in LENT:
        if only and variant.name not in only:
            continue
        own, lent = known(Variant())["root5"], known(variant)["root5"]
        for head, fit in {head: heads()[head] for head in FEW_HEADS}.items():
            add((variant.name, "root5", head), fit, own, lent)
    source = np.array([scan.source for scan in scans])
    sick = [judge.sick[target] for _, target in judge.pairs]
    of_groups = [groups[target] for _, target in judge.pairs]
    chosen, published = nested_worst([scores for scores, _ in scored], sick, of_groups)
    click.echo(
        json.dumps(
            {
                "scans": {name: int((source == name).sum()) for name in ARCHIVES},
                "groups": {name: len(np.unique(groups[source == name])) for name in ARCHIVES},
                "recipes": sorted(rows, key=lambda row: -row["worst"]),
                "nested": {
                    "chosen": {
                        " | ".join(rows[i][k] for k in ("pixels", "features", "head")): count
                        for i, count in sorted(chosen.items(), key=lambda pair: -pair[1])
                    },
                    "auc_on_other_halves": dict(
                        zip(DIRECTIONS, np.mean(published, axis=0).tolist(), strict=True)
                    ),
                    "worst_on_other_halves": float(np.min(published, axis=1).mean()),
                },
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
