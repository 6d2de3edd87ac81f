"""Stage 1: bring scans from a source into artifacts/data_ingestion, checked, grouped and split."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import mlflow

from scans.classes import parse_class_patterns
from scans.dataset import build_dataset
from scans.errors import SourceError
from scans.fetch import SourceFiles, fetch_sources
from scans.limits import Limits
from scans.phantom.patients import DEFAULT_PATIENTS
from scans.prepared import Dataset, write_dataset
from scans.sources import parse_sources, redacted
from scans.splits import Fractions
from scans.summary import report, summarise
from steps.errors import one_sentence_errors
from steps.options import StageCommand, folder_option, section_options
from steps.parameters import DataIngestion
from steps.settings import changed
from steps.tracking import log_params, print_progress, run_name, stage_run

COUNTS = ("files", "distinct", "copies", "rejected", "groups", "patients")  # logged as metrics


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
    phantom_patients: int = DEFAULT_PATIENTS,
    labels: str = "",
    unsigned: bool = False,
) -> dict[str, Any]:
    """Write the output folder of the stage, whole or not at all.

    Everything is prepared in a folder beside `output` and renamed at the end; what a killed run
    left there is removed by the next one.

    Args:
        source: where the scans come from, see `scans.sources.EXPECTED`; several as
            `name=where;name=where`.
        output: the folder to write; what is there is replaced.
        sha256: of the source's zip, or "".
        class_patterns: `glob=class;glob=class`, see `scans.classes.parse_class_patterns`.
        fractions, seed, group_distance_bits, resplit: of the split, see
            `scans.dataset.build_dataset`.
        limits: how much the source may hold.
        phantom_images: how many single slices to draw when the source is `phantom`; 0 draws
            patients.
        phantom_patients: how many patients to draw, with series of slices.
        labels: path of a table of labels, or "" for class folders.
        unsigned: send S3 no credentials.

    Returns:
        The summary, as written to `summary.json`.

    Raises:
        scans.errors.SourceError: the source cannot be used.
    """
    patterns = parse_class_patterns(class_patterns)
    output = output.absolute()
    _refuse_to_replace(output, source)
    partial = output.with_name(f".{output.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    work, result = partial / "work", partial / "result"
    work.mkdir(parents=True)
    result.mkdir()
    try:
        fetched = fetch_sources(
            source,
            work,
            sha256=sha256,
            limits=limits,
            unsigned=unsigned,
            phantom_images=phantom_images,
            phantom_patients=phantom_patients,
            seed=seed,
        )
        dataset = build_dataset(
            fetched,
            patterns=patterns,
            fractions=fractions,
            seed=seed,
            group_distance_bits=group_distance_bits,
            resplit=resplit,
            limits=limits,
            labels=Path(labels).expanduser() if labels else None,
        )
        write_dataset(dataset, result)
        _keep_masks(fetched, dataset, result)
        kinds = [one.kind for one in fetched]
        summary = summarise(dataset, source, kinds, group_distance_bits)
        text = json.dumps(summary, indent=2, ensure_ascii=False) + "\n"
        (result / "summary.json").write_text(text, encoding="utf-8")
        _replace(output, result, partial / "previous")
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return summary


def _keep_masks(fetched: Sequence[SourceFiles], dataset: Dataset, result: Path) -> None:
    """Keep the nodule masks of phantoms as `masks/<sha256 of the scan>.png`."""
    for source in fetched:
        if source.masks is None:
            continue
        (result / "masks").mkdir(exist_ok=True)
        for row in dataset.rows:
            mask = source.masks / f"{dataset.origin[row.path].stem}.png"
            if row.source == source.name and mask.exists():
                shutil.copyfile(mask, result / "masks" / f"{row.sha256}.png")


def _refuse_to_replace(output: Path, source: str) -> None:
    """Never delete what is not an earlier output of this stage, nor the scans themselves."""
    if output.is_dir() and any(output.iterdir()) and not (output / "manifest.csv").is_file():
        raise SourceError(
            f"{output} holds other files and would be replaced. Expected an empty or a new folder, "
            "or an earlier output of this stage. Give another --output."
        )
    for named in parse_sources(source):
        given = Path(named.where).expanduser().absolute()
        if given.exists() and (given.is_relative_to(output) or output.is_relative_to(given)):
            raise SourceError(
                f"The source {given} and the output {output} lie in each other. Give another "
                "--output."
            )


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
    counts = {name: summary[name] for name in COUNTS}
    for split, count in summary["splits"].items():
        counts[f"distinct_{split}"] = count
    mlflow.log_metrics({name: float(count) for name, count in counts.items()})
    mlflow.log_dict(summary, "summary.json")
    mlflow.log_artifact(str(output / "rejected.csv"))
    mlflow.log_artifact(str(output / "series.csv"))


@click.command(cls=StageCommand)
@folder_option("output", "artifacts/data_ingestion", "Folder to write.")
@one_sentence_errors
@section_options(DataIngestion)
def main(settings: DataIngestion, output: Path) -> None:
    """Bring scans into a folder, checked, fingerprinted, grouped and split.

    python -m steps.data_ingestion --source Chest-CT-Scan-data.zip --output artifacts/data_ingestion
    """
    name = run_name(settings.section, settings.source, changed(settings))
    with stage_run(settings.section, name):
        log_params(settings.model_dump() | {"source": redacted(settings.source)})
        summary = ingest(
            settings.source,
            output,
            sha256=settings.sha256,
            class_patterns=settings.class_patterns,
            fractions=Fractions(
                settings.train_fraction, settings.validation_fraction, settings.test_fraction
            ),
            seed=settings.seed,
            group_distance_bits=settings.group_distance_bits,
            resplit=settings.resplit,
            limits=Limits(settings.max_files, settings.max_total_bytes, settings.max_file_bytes),
            phantom_images=settings.phantom_images,
            phantom_patients=settings.phantom_patients,
            labels=settings.labels,
            unsigned=settings.unsigned,
        )
        log_summary(summary, output)
    click.echo(report(summary))
    print_progress(f"Wrote {output}/manifest.csv, series.csv, rejected.csv and summary.json")


if __name__ == "__main__":
    main()
