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

from model.network import Precision, export
from model.preprocessing import Preprocessing
from model.tensors import random_tensors, tensors_sha256, write_tensors
from model.weights import file_tensors, imagenet_tensors
from scans.manifest import read_manifest
from steps.base import TENSORS, quantisation_scans
from steps.errors import one_sentence_errors
from steps.folders import replaced_folder
from steps.options import StageCommand, folder_option, section_options
from steps.parameters import PrepareBaseModel
from steps.settings import changed
from steps.tracking import (
    log_params,
    print_progress,
    run_name,
    source_of,
    stage_run,
    started_by_main,
)


def prepare_base_model(
    data: Path,
    output: Path,
    *,
    weights: str,
    precision: Precision,
    preprocessing: Preprocessing,
    calibration_images: int,
    seed: int,
    feature_blocks: int = 1,
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
        feature_blocks: last blocks whose maps the network gives, see model.network.vgg16.

    Returns:
        The contents of base.json.

    Raises:
        StageError: the data are missing.
        WeightsError: the weights cannot be had.
    """
    if weights == "random":
        tensors = random_tensors(seed)
    elif weights == "imagenet":
        tensors = imagenet_tensors(print_progress)
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
        "feature_blocks": feature_blocks,
        "classes": classes,
    }
    with replaced_folder(output) as folder:
        write_tensors(tensors, folder / TENSORS)
        print_progress(f"building VGG16 without top at {precision}")
        side = preprocessing.image_size_px
        scans = quantisation_scans(data, calibration_images, preprocessing, seed)
        path = folder / "base.xml"
        export(tensors, side, path, precision, scans, feature_blocks=feature_blocks)
        (folder / "base.json").write_text(json.dumps(made, indent=2, ensure_ascii=False) + "\n")
    return made


@click.command(cls=StageCommand, help=__doc__)
@folder_option("data", "artifacts/data_ingestion", "What data_ingestion wrote.")
@folder_option("output", "artifacts/prepare_base_model", "Folder to write.")
@one_sentence_errors
@section_options(PrepareBaseModel)
def main(settings: PrepareBaseModel, data: Path, output: Path) -> None:
    name = run_name(settings.section, source_of(data), changed(settings))
    with stage_run(settings.section, name):
        made = prepare_base_model(
            data,
            output,
            weights=settings.weights,
            precision=settings.precision,
            preprocessing=Preprocessing(
                image_size_px=settings.image_size_px,
                crop_fraction=settings.crop_fraction,
                contrast_cutoff_percent=settings.contrast_cutoff_percent,
                crop=settings.crop,
                contrast_kind=settings.contrast_kind,
                crop_aspect=settings.crop_aspect,
            ),
            calibration_images=settings.calibration_images,
            seed=settings.seed,
            feature_blocks=settings.feature_blocks,
        )
        preprocessing = made.pop("preprocessing")
        log_params(made | preprocessing | {"seed": settings.seed})
        mlflow.log_artifact(str(output / "base.json"))
        mlflow.set_tag("weights_sha256", made["weights_sha256"])
    if not started_by_main():
        click.echo(json.dumps(made | preprocessing, ensure_ascii=False))


if __name__ == "__main__":
    main()
