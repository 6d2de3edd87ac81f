"""Stage 1: bring scans from a source into artifacts/data_ingestion, checked, grouped and split."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import click
import mlflow

from model.images import ScanError, decode_grey
from scans.classes import parse_class_patterns
from scans.dataset import Dataset, build_dataset, data_digest, write_dataset
from scans.fetch import Fetched, fetch_scans
from scans.limits import Limits
from scans.phantom import DEFAULT_IMAGES
from scans.sources import redacted
from scans.splits import SPLITS, Fractions
from steps.errors import one_sentence_errors
from steps.tracking import say, stage_run

SYNTHETIC = (
    "SYNTHETIC: these are computer-drawn phantoms, not scans of people; "
    "what is measured on them says nothing about patients."
)


def ingest(
    source: str,
    output: Path,
    *,
    sha256: str,
    class_patterns: str,
    fractions: Fractions,
    seed: int,
    group_distance_bits: int,
    resplit: bool,
    limits: Limits,
    phantom_images: int,
) -> dict[str, Any]:
    """Write the output folder of the stage, whole or not at all.

    Everything is prepared in a folder beside `output` and renamed at the end; what a killed run
    left there is removed by the next one.

    Args:
        source: where the scans come from, see `scans.sources.EXPECTED`.
        output: the folder to write; what is there is replaced.
        sha256: of the source's zip, or "".
        class_patterns: `glob=class;glob=class`, see `scans.classes.parse_class_patterns`.
        fractions, seed, group_distance_bits, resplit: of the split, see
            `scans.dataset.build_dataset`.
        limits: how much the source may hold.
        phantom_images: how many phantoms to draw when the source is `phantom`.

    Returns:
        The summary, as written to `summary.json`.

    Raises:
        scans.errors.SourceError: the source cannot be used.
    """
    patterns = parse_class_patterns(class_patterns)
    partial = output.with_name(f".{output.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    work, result = partial / "work", partial / "result"
    work.mkdir(parents=True)
    result.mkdir()
    try:
        fetched = fetch_scans(
            source, work, sha256=sha256, limits=limits, phantom_images=phantom_images, seed=seed
        )
        dataset = build_dataset(
            fetched.folder,
            decode=decode_grey,
            decode_error=ScanError,
            patterns=patterns,
            fractions=fractions,
            seed=seed,
            group_distance_bits=group_distance_bits,
            resplit=resplit,
            limits=limits,
        )
        write_dataset(dataset, result)
        _keep_masks(fetched, dataset, result)
        summary = summarise(dataset, source, fetched, group_distance_bits)
        text = json.dumps(summary, indent=2, ensure_ascii=False) + "\n"
        (result / "summary.json").write_text(text, encoding="utf-8")
        _replace(output, result, partial / "previous")
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return summary


def summarise(
    dataset: Dataset, source: str, fetched: Fetched, group_distance_bits: int
) -> dict[str, Any]:
    """Return the counts and facts of a data set that `summary.json` holds."""
    rows = dataset.rows
    labels = sorted({row.label for row in rows})
    per_class = {
        label: {
            "files": sum(row.copies for row in rows if row.label == label),
            "distinct": sum(row.label == label for row in rows),
            "groups": len({row.group for row in rows if row.label == label}),
            **{
                split: sum(row.label == label and row.split == split for row in rows)
                for split in SPLITS
            },
        }
        for label in labels
    }
    return {
        "source": redacted(source),
        "source_kind": fetched.kind,
        "phantom": fetched.kind == "phantom",
        "files": dataset.files,
        "distinct": len(rows),
        "copies": sum(row.copies - 1 for row in rows),
        "rejected": len(dataset.rejected),
        "groups": len({row.group for row in rows}),
        "groups_of_several_classes": len({(row.group, row.label) for row in rows})
        - len({row.group for row in rows}),
        "classes": per_class,
        "splits": {split: sum(row.split == split for row in rows) for split in SPLITS},
        "formats": dict(sorted(Counter(f"{row.format} {row.mode}" for row in rows).items())),
        "official_splits": dataset.official_splits,
        "groups_found_in_two_official_splits": dataset.crossing_groups,
        "group_distance_bits": group_distance_bits,
        "data_digest": data_digest(rows),
    }


def report(summary: dict[str, Any]) -> str:
    """Return the counts as lines of text for a reader."""
    lines = [
        f"{summary['files']} files, {summary['distinct']} distinct, {summary['copies']} exact "
        f"copies, {summary['rejected']} rejected, {summary['groups']} near-duplicate groups",
        f"{'class':<32}{'files':>8}{'distinct':>10}{'groups':>8}"
        + "".join(f"{split:>12}" for split in SPLITS),
    ]
    for label, counts in summary["classes"].items():
        lines.append(
            f"{label:<32}{counts['files']:>8}{counts['distinct']:>10}{counts['groups']:>8}"
            + "".join(f"{counts[split]:>12}" for split in SPLITS)
        )
    crossing = summary["groups_found_in_two_official_splits"]
    if crossing:
        lines.append(
            f"{len(crossing)} groups of near-duplicates were found in two of the source's splits "
            f"and kept on the training side: {', '.join(crossing)}"
        )
    if summary["groups_of_several_classes"]:
        lines.append(
            f"{summary['groups_of_several_classes']} groups hold near-duplicates of different "
            "classes; look at them in manifest.csv"
        )
    lines.append(f"data digest {summary['data_digest']}")
    return "\n".join(lines + ([SYNTHETIC] if summary["phantom"] else []))


def _keep_masks(fetched: Fetched, dataset: Dataset, result: Path) -> None:
    """Keep the nodule masks of phantoms as `masks/<sha256 of the scan>.png`."""
    if fetched.masks is None:
        return
    (result / "masks").mkdir()
    for row in dataset.rows:
        mask = fetched.masks / dataset.origin[row.path].name
        if mask.exists():
            shutil.copyfile(mask, result / "masks" / f"{row.sha256}.png")


def _replace(output: Path, result: Path, previous: Path) -> None:
    """Put the whole result in the output's place."""
    if output.exists():
        output.replace(previous)
    result.replace(output)


def log_summary(summary: dict[str, Any], output: Path) -> None:
    """Log the counts, the kind of data and the tables to the active MLflow run."""
    mlflow.set_tags(
        {
            "phantom": str(summary["phantom"]).lower(),
            "data": "synthetic phantoms" if summary["phantom"] else "scans",
            "source_kind": summary["source_kind"],
            "data_digest": summary["data_digest"],
        }
    )
    counts = {name: summary[name] for name in ("files", "distinct", "copies", "rejected", "groups")}
    for split, count in summary["splits"].items():
        counts[f"distinct_{split}"] = count
    mlflow.log_metrics({name: float(count) for name, count in counts.items()})
    mlflow.log_dict(summary, "summary.json")
    mlflow.log_artifact(str(output / "rejected.csv"))


@click.command()
@click.option(
    "--source", default="phantom", show_default=True,
    help="phantom, Google Drive link or id, https://…zip, s3://bucket/key.zip, s3://bucket/prefix/,"
    " local zip or local folder.",
)  # fmt: skip
@click.option("--sha256", default="", help="Expected SHA-256 of the source's zip; empty: any.")
@click.option(
    "--class-patterns", default="",
    help="Rename or merge class folders: 'adenocarcinoma*=adenocarcinoma;normal=normal'.",
)  # fmt: skip
@click.option("--train-fraction", type=float, default=0.7, show_default=True)
@click.option("--validation-fraction", type=float, default=0.1, show_default=True)
@click.option("--test-fraction", type=float, default=0.2, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the split and phantoms.")
@click.option(
    "--group-distance-bits", type=int, default=40, show_default=True,
    help="Largest Hamming distance (of 256 bits) of near-duplicates that are kept together.",
)  # fmt: skip
@click.option(
    "--resplit", type=bool, default=False, show_default=True,
    help="Split anew even where the source has train, valid and test folders.",
)  # fmt: skip
@click.option("--max-files", type=int, default=100_000, show_default=True)
@click.option("--max-total-bytes", type=int, default=10_000_000_000, show_default=True)
@click.option("--max-file-bytes", type=int, default=200_000_000, show_default=True)
@click.option(
    "--phantom-images", type=int, default=DEFAULT_IMAGES, show_default=True,
    help="How many phantoms to draw when the source is phantom.",
)  # fmt: skip
@click.option(
    "--output", type=click.Path(path_type=Path, file_okay=False),
    default=Path("artifacts/data_ingestion"), show_default=True, help="Folder to write.",
)  # fmt: skip
@one_sentence_errors
def main(
    source: str,
    sha256: str,
    class_patterns: str,
    train_fraction: float,
    validation_fraction: float,
    test_fraction: float,
    seed: int,
    group_distance_bits: int,
    resplit: bool,
    max_files: int,
    max_total_bytes: int,
    max_file_bytes: int,
    phantom_images: int,
    output: Path,
) -> None:
    """Bring scans into a folder, checked, fingerprinted, grouped and split.

    python -m steps.data_ingestion --source Chest-CT-Scan-data.zip --output artifacts/data_ingestion
    """
    settings: dict[str, Any] = {
        "sha256": sha256, "class_patterns": class_patterns, "seed": seed,
        "group_distance_bits": group_distance_bits, "resplit": resplit,
        "phantom_images": phantom_images,
    }  # fmt: skip
    fractions = Fractions(train_fraction, validation_fraction, test_fraction)
    limits = Limits(max_files, max_total_bytes, max_file_bytes)
    with stage_run("data_ingestion"):
        mlflow.log_params(
            {"source": redacted(source), **settings, **vars(limits)}
            | {f"{split}_fraction": share for split, share in fractions.of().items()}
        )
        summary = ingest(source, output, fractions=fractions, limits=limits, **settings)
        log_summary(summary, output)
    click.echo(report(summary))
    say(f"Wrote {output}/manifest.csv, rejected.csv and summary.json")


if __name__ == "__main__":
    main()
