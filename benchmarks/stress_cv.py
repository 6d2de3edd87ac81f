"""Does the answer survive another export of the same scan, for scans that training never saw?

Cross-validates by near-duplicate group over all scans: in each fold a head is trained on the
scans outside of it, with tones borrowed from those scans only, and scores the fold's scans
changed in each way of steps/evaluation/stress.py (whose other tones come from the same scans). A
scan is called diseased from a threshold that the training scans of its fold gave, as training
chooses the served one. Nothing is kept between runs; every view and change goes through the
network.

    python -m benchmarks.stress_cv                 # some minutes on 2 cores
    python -m benchmarks.stress_cv --scans 40      # a try
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import yaml
from numpy.typing import NDArray
from tqdm import tqdm

from model import decision
from model.decision import probabilities
from model.decoding.scan_file import decode_grey
from model.features import feature_vectors
from model.preprocessing import scan_pixels
from model.runtime import Runtime
from scans.manifest import ManifestRow, read_manifest
from steps.base import read_base
from steps.evaluation.stress import changed_files, stress_rows
from steps.metrics import balanced_accuracy
from steps.training.augmentation import Augmentation, Donors
from steps.training.cross_validation import grouped_folds, solve_head
from steps.training.features import views_of_scan
from steps.training.threshold import held_out_threshold

BATCH = 16
VIEWS = ("views", "flip", "rotation_deg", "shift", "zoom", "brightness", "histogram_match",
         "contrast")  # fmt: skip


def some_of(rows: Sequence[ManifestRow], count: int, seed: int) -> list[ManifestRow]:
    """Choose scans at random, all where 0 are asked for, in the manifest's order."""
    if not 0 < count < len(rows):
        return list(rows)
    chosen = np.random.default_rng(seed).choice(len(rows), count, replace=False)
    return [rows[i] for i in sorted(chosen)]


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path), default=Path("artifacts/data_ingestion"))
@click.option(
    "--prepared", type=click.Path(path_type=Path), default=Path("artifacts/prepare_base_model")
)
@click.option("--params", type=click.Path(path_type=Path), default=Path("params.yaml"))
@click.option("--scans", type=click.IntRange(0), default=0, help="At random; 0: all.")
@click.option("--repeats", type=click.IntRange(1), default=1, help="Shuffles into folds.")
@click.option("--seed", type=int, default=0)
def main(data: Path, prepared: Path, params: Path, scans: int, repeats: int, seed: int) -> None:
    base = read_base(prepared)
    settings = yaml.safe_load(params.read_text(encoding="utf-8"))["training"]
    views = Augmentation(**{name: settings[name] for name in VIEWS})
    runtime = Runtime(base.network, base.precision)
    rows = some_of(read_manifest(data), scans, seed)
    files = [(data / row.path).read_bytes() for row in rows]
    greys = [decode_grey(file) for file in files]
    labels = np.array([base.classes.index(row.label) for row in rows], dtype=np.int64)
    groups = np.array([row.group for row in rows])

    def features(pixels: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        parts = range(0, len(pixels), BATCH)
        return np.concatenate(
            [feature_vectors(runtime(np.stack(pixels[i : i + BATCH]))) for i in parts]
        )

    found: dict[str, list[float]] = defaultdict(list)
    for repeat in range(repeats):
        called: dict[str, NDArray[np.int64]] = {}
        folds = list(grouped_folds(labels, groups, seed + repeat))
        for train, held_out in tqdm(folds, desc="folds", unit="fold"):
            donors = Donors((rows[i].label, greys[i]) for i in train)
            drawn = [views_of_scan(data, rows[i], base, views, donors, seed) for i in train]
            vectors = features([view for scan in drawn for view in scan])
            head = solve_head(
                vectors,
                labels[train].repeat(1 + views.views),
                len(base.classes),
                settings["l2"],
                settings["balanced_classes"],
                settings["shrinkage"],
            )
            threshold = held_out_threshold(
                vectors.reshape(len(train), 1 + views.views, -1),
                labels[train],
                groups[train],
                base.classes,
                l2=settings["l2"],
                balanced=settings["balanced_classes"],
                sensitivity=settings["sensitivity"],
                seed=seed + repeat,
                shrinkage=settings["shrinkage"],
            )
            tones: dict[str, list[NDArray[np.uint8]]] = defaultdict(list)
            for i in train:
                tones[rows[i].label].append(greys[i])
            shown = [files[i] for i in held_out]
            named = [rows[i].label for i in held_out]
            answers = {"unchanged": shown} | {
                name: changed_files(shown, named, change, seed + repeat)
                for name, change in stress_rows(tones).items()
            }
            for name, changed in answers.items():
                pixels = [scan_pixels(file, base.preprocessing) for file in changed]
                known = called.setdefault(name, np.full(len(rows), -1, dtype=np.int64))
                p = probabilities(head.logits(features(pixels)))
                known[held_out] = decision.labels(p, base.classes, threshold)
        for name, answer in called.items():
            scored = answer >= 0
            found[name].append(balanced_accuracy(labels[scored], answer[scored]))
    if not found:
        raise click.ClickException("Expected at least two groups of each class; received fewer.")
    table = {name: float(np.mean(values)) for name, values in found.items()}
    for name, value in table.items():
        click.echo(f"{value:.3f}  {name}", err=True)
    worst = min((name for name in table if name != "unchanged"), key=table.__getitem__)
    click.echo(
        json.dumps(
            {
                "scans": len(rows),
                "groups": len(np.unique(groups)),
                "repeats": repeats,
                "balanced_accuracy": table,
                "per_repeat": dict(found),
                "worst": {"row": worst, "balanced_accuracy": table[worst]},
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
