"""Does the heat map point at the nodule?

Draws new phantoms with a nodule, asks a model for labels and heat maps, and counts how often the
hottest point lies on the nodule (the pointing game: Zhang et al. 2016, "Top-down Neural Attention
by Excitation Backprop", section 4.1, with its tolerance). Only phantoms that the model calls
diseased count. The model has to be trained on single phantoms (`-P phantom_images=240`).

    python -m benchmarks.pointing_game --model artifacts/training/model
"""

from __future__ import annotations

import base64
import io
import json

import click
import mlflow
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from model.decision import HEALTHY
from scans.phantom.drawing import make_phantom

TOLERANCE = 1 / 14  # of the width: half a cell of VGG16's 7 x 7 map
FIRST_SEED = 1_000_000  # far from any phantom that a pipeline draws
BATCH = 32


def hottest(heatmap: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """Find the middle of the hottest pixels of a heat map, as row and column of a scan.

    Args:
        heatmap: base64 text of the PNG.
        shape: height and width of the scan.
    """
    opacity = np.asarray(Image.open(io.BytesIO(base64.b64decode(heatmap))))[..., 3]
    rows, columns = np.nonzero(opacity == opacity.max())
    return (
        (rows.mean() + 0.5) / opacity.shape[0] * shape[0],
        (columns.mean() + 0.5) / opacity.shape[1] * shape[1],
    )


def is_hit(point: tuple[float, float], mask: NDArray[np.bool_], tolerance: float) -> bool:
    """Tell whether a point lies on a mask or within the tolerance, a fraction of the width."""
    distance = ndimage.distance_transform_edt(~mask)
    row, column = (min(int(at), side - 1) for at, side in zip(point, mask.shape, strict=True))
    return bool(distance[row, column] <= tolerance * mask.shape[1])


@click.command(help=__doc__)
@click.option("--model", "model_uri", default="artifacts/training/model", help="URI or folder.")
@click.option("--phantoms", type=click.IntRange(1), default=100)
def main(model_uri: str, phantoms: int) -> None:
    model = mlflow.pyfunc.load_model(model_uri)
    drawn = [make_phantom(FIRST_SEED + i, nodule=True) for i in range(phantoms)]
    hits, exact, chance, detected = 0, 0, 0.0, 0
    for start in range(0, phantoms, BATCH):
        some = drawn[start : start + BATCH]
        files = []
        for phantom in some:
            file = io.BytesIO()
            Image.fromarray(phantom.image).save(file, "PNG")
            files.append(file.getvalue())
        answers = model.predict(pd.DataFrame({"image": files}), params={"explain": True})
        for phantom, label, heatmap in zip(some, answers["label"], answers["heatmap"], strict=True):
            if str(label).casefold() == HEALTHY:
                continue
            detected += 1
            point = hottest(heatmap, phantom.nodule_mask.shape)
            hits += is_hit(point, phantom.nodule_mask, TOLERANCE)
            exact += is_hit(point, phantom.nodule_mask, 0.0)
            distance = ndimage.distance_transform_edt(~phantom.nodule_mask)
            near = distance <= TOLERANCE * phantom.nodule_mask.shape[1]
            chance += float(near[phantom.image > 0].mean())
    click.echo(
        json.dumps(
            {
                "phantoms_with_nodule": phantoms,
                "detected": detected,
                "pointing_game": hits / detected if detected else None,
                "without_tolerance": exact / detected if detected else None,
                "by_chance": chance / detected if detected else None,
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
