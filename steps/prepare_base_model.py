"""Stage 2: ImageNet VGG16 without top, frozen, built and quantised for the runtime.

Reads artifacts/data_ingestion; writes artifacts/prepare_base_model.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import click
import mlflow
import numpy as np
from numpy.typing import NDArray

from model.network import PRECISIONS, Precision, export
from model.preprocessing import Preprocessing, scan_pixels
from model.tensors import random_tensors, tensors_sha256, write_tensors
from model.weights import file_tensors, imagenet_tensors
from scans.manifest import read_manifest
from steps.base import TENSORS
from steps.errors import StageError, one_sentence_errors
from steps.folders import replaced_folder
from steps.tracking import log_params, say, stage_run


def prepare_base_model(
    data: Path,
    output: Path,
    *,
    weights: str,
    precision: Precision,
    preprocessing: Preprocessing,
    calibration_images: int,
    seed: int,
) -> dict[str, Any]:
    """Prepare the base and write it.

    Args:
        data: what data_ingestion wrote.
        output: receives base.xml and base.bin (for the runtime), base.npz (the 26 tensors in full
            precision) and base.json (how it was made). Appears only when whole.
        weights: `imagenet`, `random` or the path of a Keras weights file.
        precision: what the runtime computes in.
        preprocessing: how scans become pixels, the same in every later stage.
        calibration_images: training scans that int8's ranges are measured on.
        seed: of random weights and of the choice of calibration scans.

    Returns:
        The contents of base.json.

    Raises:
        StageError: the data are missing.
        WeightsError: the weights cannot be had.
    """
    if weights == "random":
        tensors = random_tensors(seed)
    elif weights == "imagenet":
        tensors = imagenet_tensors(say)
    else:
        tensors = file_tensors(Path(weights))

    rows = read_manifest(data)
    classes = sorted({row.label for row in rows})
    made = {
        "weights": weights if weights in ("imagenet", "random") else Path(weights).name,
        "weights_sha256": tensors_sha256(tensors),
        "precision": precision,
        "preprocessing": dataclasses.asdict(preprocessing),
        "calibration_images": calibration_images,
        "classes": classes,
    }
    with replaced_folder(output) as folder:
        write_tensors(tensors, folder / TENSORS)
        say(f"building VGG16 without top at {precision}")
        side = preprocessing.image_size_px
        scans = calibration_scans(data, calibration_images, preprocessing, seed)
        export(tensors, side, folder / "base.xml", precision, scans)
        (folder / "base.json").write_text(json.dumps(made, indent=2, ensure_ascii=False) + "\n")
    return made


def calibration_scans(
    data: Path, count: int, preprocessing: Preprocessing, seed: int
) -> list[NDArray[np.uint8]]:
    """Decode training scans to calibrate with, drawn at random, at most `count`.

    Returns:
        RGB pixels as the network takes them, one array per scan.

    Raises:
        StageError: there is no training scan.
    """
    training = [row for row in read_manifest(data) if row.split == "train"]
    if not training:
        raise StageError(f"{data} has no training scans. Run data_ingestion again.")
    chosen = np.random.default_rng(seed).permutation(len(training))[:count]
    return [scan_pixels((data / training[i].path).read_bytes(), preprocessing) for i in chosen]


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path), default=Path("artifacts/data_ingestion"))
@click.option(
    "--output", type=click.Path(path_type=Path), default=Path("artifacts/prepare_base_model")
)
@click.option("--weights", default="imagenet", help="imagenet, random, or a Keras weights file.")
@click.option("--precision", type=click.Choice(PRECISIONS), default="int8")
@click.option("--image-size-px", type=click.IntRange(32, 1024), default=224)
@click.option("--calibration-images", type=click.IntRange(1), default=120)
@click.option(
    "--crop-fraction",
    type=click.FloatRange(0, 0.4),
    default=0.075,
    help="Cut off each side, as a fraction of the width or height.",
)
@click.option(
    "--contrast-cutoff-percent",
    type=click.FloatRange(0, 49),
    default=1,
    help="Percent of the darkest and of the brightest pixels that saturate.",
)
@click.option("--seed", type=int, default=0)
@one_sentence_errors
def main(
    data: Path,
    output: Path,
    weights: str,
    precision: Precision,
    image_size_px: int,
    crop_fraction: float,
    contrast_cutoff_percent: float,
    calibration_images: int,
    seed: int,
) -> None:
    with stage_run("prepare_base_model"):
        made = prepare_base_model(
            data,
            output,
            weights=weights,
            precision=precision,
            preprocessing=Preprocessing(image_size_px, crop_fraction, contrast_cutoff_percent),
            calibration_images=calibration_images,
            seed=seed,
        )
        preprocessing = made.pop("preprocessing")
        log_params(made | preprocessing | {"seed": seed})
        mlflow.log_artifact(str(output / "base.json"))
        mlflow.set_tag("weights_sha256", made["weights_sha256"])
    click.echo(json.dumps(made | preprocessing, ensure_ascii=False))


if __name__ == "__main__":
    main()
