"""Does a series' key slice show the lesion?

Scores series of DICOM slices whose lesions are marked, and counts the series whose key slice lies
within the lesion, beside what a slice drawn at random and the middle slice would give. Marked are
the slices of new phantom patients, by their masks, and those of zips with boxes: Pascal VOC XML
called as the slices' SOP Instance UIDs, as in Lung-PET-CT-Dx.

    python -m benchmarks.key_slice --model artifacts/training/model --phantom-patients 40
    python -m benchmarks.key_slice --model artifacts/training/model --data folder-of-zips
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd

from model.decoding.scan_file import read_header
from model.packaging import quiet_mlflow
from scans.archive import extract_zip
from scans.limits import Limits
from scans.phantom.patients import write_phantom_patients
from steps.errors import one_sentence_errors
from steps.evaluation.external_model import ExternalModel, external_model
from steps.evaluation.lesions import marked
from steps.evaluation.series import score_slices
from steps.evaluation.series_scores import KnownSlices, series_section

FIRST_SEED = 1_000_000  # far from any phantom that a pipeline draws


def measure(model: ExternalModel, scans: list[Path], lesions: Path) -> dict[str, Any]:
    """Score the series of some scans and compare their key slices with the marked lesions.

    Args:
        model: trained with series.
        scans: paths of DICOM slices.
        lesions: folder of masks or boxes.

    Returns:
        JSON-ready: the section's `key_slice`, see `steps.evaluation.series_scores`, and
        `per_series`: what was answered about each series with a lesion.
    """
    headers = [read_header(path.read_bytes()) for path in scans]
    if None in headers:
        raise click.ClickException(f"Expected DICOM. Received: {scans[headers.index(None)]}")
    known = [header for header in headers if header]
    positions = [header.position_along_normal_mm for header in known]
    lesion = marked(scans, lesions)
    slices = KnownSlices(
        series=[header.series_uid for header in known],
        patients=[header.patient_id for header in known],
        groups=np.array([header.patient_id for header in known]),
        diseased=lesion,
        lesion=lesion,
        position_mm=np.array([np.nan if p is None else p for p in positions]),
    )
    scored = score_slices(model.pyfunc, scans, slices.series)
    if scored.answers is None:
        raise click.ClickException(f"{model.uri} answers no series. Train it again: mlflow run .")
    section = series_section(scored.answers, slices, model.healthy, model.series_threshold)
    return {"key_slice": section["key_slice"], "per_series": list(_per_series(scored, slices))}


def _per_series(scored: Any, slices: KnownSlices) -> Iterator[dict[str, Any]]:
    for answer in scored.answers.to_dict("records"):
        own = np.flatnonzero(np.array(slices.series) == answer["series"])
        if not slices.lesion[own].any():
            continue
        key = answer["key_slice"]
        yield {
            "patient": slices.patients[own[0]],
            "series": f"…{answer['series'][-8:]}",
            "slices": len(own),
            "with_lesion": int(slices.lesion[own].sum()),
            "scored": int(answer["scored"]),
            "label": answer["label"],
            "probability": answer["probability"],
            "undecided": answer["undecided"],
            "key_slice_mm": answer["key_position_mm"],
            "within": None if pd.isna(key) else bool(slices.lesion[int(key)]),
        }


def sets(data: Path | None, phantom_patients: int, work: Path) -> Iterator[tuple[str, Path, Path]]:
    """Yield name, folder of scans and folder of masks or boxes of each set."""
    if phantom_patients:
        drawn = work / "phantoms"
        write_phantom_patients(
            drawn / "files", drawn / "masks", patients=phantom_patients, seed=FIRST_SEED
        )
        yield "phantom patients", drawn / "files", drawn / "masks"
    for archive in sorted(data.glob("*.zip")) if data else ():
        unpacked = work / archive.stem
        extract_zip(archive, unpacked, Limits(), archive.name)
        if any(unpacked.rglob("*.xml")):
            yield archive.stem, unpacked, unpacked


@click.command(help=__doc__)
@click.option("--model", "model_uri", default="artifacts/training/model", help="URI or folder.")
@click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--phantom-patients", type=click.IntRange(0), default=0)
@one_sentence_errors
def main(model_uri: str, data: Path | None, phantom_patients: int) -> None:
    if data is None and not phantom_patients:
        raise click.UsageError("Give --data, --phantom-patients or both.")
    found = {}
    with (
        tempfile.TemporaryDirectory() as work,
        quiet_mlflow(),
        external_model(model_uri) as model,
    ):
        for name, scans, lesions in sets(data, phantom_patients, Path(work)):
            found[name] = measure(model, sorted(scans.rglob("*.dcm")), lesions)
    if not found:
        raise click.ClickException(f"{data} has no zip with boxes (XML) beside its DICOM slices.")
    click.echo(json.dumps(found, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
