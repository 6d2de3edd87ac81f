"""How often does a model notice that a picture is no chest CT?

Scores the pictures that each evaluation scores (steps/evaluation/non_scans.py), those that
scikit-image ships as well (nothing is downloaded), and the data set's own test scans. With
`--collections`, a folder of public collections' zips, also slices of other hospitals: those that
show lungs must not be flagged, those of the abdomen and reformats in other planes must be.

    pip install scikit-image
    python -m benchmarks.out_of_domain --model artifacts/training/model
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import mlflow
import pandas as pd

from benchmarks.odd_pictures import scikit_image_pictures, slices_by_region
from scans.manifest import read_manifest
from steps.evaluation.non_scans import non_scans

BATCH = 32


def flags(model: Any, files: list[bytes]) -> list[bool | None]:
    """Ask the pyfunc; None where it refused the file with an error."""
    answers = [
        model.predict(pd.DataFrame({"image": files[start : start + BATCH]}))
        for start in range(0, len(files), BATCH)
    ]
    return pd.concat(answers, ignore_index=True)["out_of_domain"].tolist()


def counted(model: Any, kinds: dict[str, list[bytes]]) -> dict[str, dict[str, int]]:
    """Count, by kind, pictures, those flagged, and those refused with an error."""
    result = {}
    for kind, files in kinds.items():
        answers = flags(model, files)
        result[kind] = {
            "n": len(files),
            "flagged": sum(flag is True for flag in answers),
            "refused": answers.count(None),
        }
        stopped = result[kind]["flagged"] + result[kind]["refused"]
        click.echo(f"{stopped:3d} of {len(files):3d} flagged or refused  {kind}", err=True)
    return result


def noticed(kinds: dict[str, dict[str, int]]) -> float | None:
    """Return the share that is flagged or refused, over all kinds; None of no picture."""
    total = sum(row["n"] for row in kinds.values())
    stopped = sum(row["flagged"] + row["refused"] for row in kinds.values())
    return stopped / total if total else None


@click.command(help=__doc__)
@click.option("--model", "model_uri", default="artifacts/training/model", help="URI or folder.")
@click.option("--data", type=click.Path(path_type=Path), default=Path("artifacts/data_ingestion"))
@click.option("--collections", type=click.Path(exists=True, path_type=Path), default=None)
def main(model_uri: str, data: Path, collections: Path | None) -> None:
    model = mlflow.pyfunc.load_model(model_uri)
    chest, other = slices_by_region(collections) if collections else ({}, {})
    tests = [(data / r.path).read_bytes() for r in read_manifest(data) if r.split == "test"]
    of_chest = counted(model, {"test scans": tests} | chest)
    of_other = counted(model, non_scans() | scikit_image_pictures() | other)
    summary = {
        "chest_ct": of_chest,
        "chest_ct_flagged": noticed(of_chest),
        "no_chest_ct": of_other,
        "no_chest_ct_noticed": noticed(of_other),
    }
    click.echo(json.dumps(summary, indent=2))


if __name__ == "__main__":
    main()
