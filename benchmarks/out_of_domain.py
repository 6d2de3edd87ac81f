"""How often does a model notice that a picture is no chest CT?

Scores the pictures that each evaluation scores (steps/evaluation/non_scans.py), those that
scikit-image ships
as well (nothing is downloaded), and the data set's own test scans; prints a table by kind.

    pip install scikit-image
    python -m benchmarks.out_of_domain --model artifacts/training/model
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import click
import mlflow
import numpy as np
import pandas as pd
from PIL import Image

from scans.manifest import read_manifest
from steps.evaluation.non_scans import non_scans, usable

FACES = 10  # of the 100 faces that scikit-image ships
BATCH = 32


def scikit_image_pictures() -> dict[str, list[bytes]]:
    """Read the photographs, textures and micrographs inside the scikit-image wheel."""
    import skimage

    folder = Path(skimage.__file__).parent / "data"
    found: dict[str, list[bytes]] = {"scikit-image pictures": [], "faces": []}
    for path in sorted(folder.iterdir()):
        if path.suffix in (".png", ".jpg"):
            with Image.open(path) as picture:
                if usable(*picture.size):
                    found["scikit-image pictures"].append(path.read_bytes())
    faces = np.load(folder / "lfw_subset.npy")[:: 100 // FACES][:FACES]
    found["faces"] = [png((face * 255).astype(np.uint8), (100, 100)) for face in faces]
    return found


def png(grey: Any, size_px: tuple[int, int] | None = None) -> bytes:
    """Write grey levels as PNG."""
    picture = Image.fromarray(grey)
    file = io.BytesIO()
    (picture.resize(size_px) if size_px else picture).save(file, "PNG")
    return file.getvalue()


def flags(model: Any, files: list[bytes]) -> list[bool | None]:
    """Ask the pyfunc; None where it refused the file with an error."""
    answers = [
        model.predict(pd.DataFrame({"image": files[start : start + BATCH]}))
        for start in range(0, len(files), BATCH)
    ]
    return pd.concat(answers, ignore_index=True)["out_of_domain"].tolist()


@click.command(help=__doc__)
@click.option("--model", "model_uri", default="artifacts/training/model", help="URI or folder.")
@click.option("--data", type=click.Path(path_type=Path), default=Path("artifacts/data_ingestion"))
def main(model_uri: str, data: Path) -> None:
    model = mlflow.pyfunc.load_model(model_uri)
    kinds = non_scans() | scikit_image_pictures()
    result: dict[str, Any] = {}
    for kind, files in kinds.items():
        answers = flags(model, files)
        stopped = sum(flag is not False for flag in answers)  # flagged, or refused with an error
        result[kind] = {
            "n": len(files), "detected": sum(map(bool, answers)), "refused": answers.count(None),
        }  # fmt: skip
        click.echo(f"{stopped:3d} of {len(files):3d} noticed  {kind}", err=True)
    total = sum(row["n"] for row in result.values())
    noticed = sum(row["detected"] + row["refused"] for row in result.values())
    scans = [(data / r.path).read_bytes() for r in read_manifest(data) if r.split == "test"]
    wrong = flags(model, scans)
    summary = {
        "kinds": result,
        "pictures": total,
        "noticed": noticed / total,
        "test_scans": len(scans),
        "test_scans_flagged": sum(map(bool, wrong)) / len(scans),
    }
    click.echo(json.dumps(summary, indent=2))


if __name__ == "__main__":
    main()
