"""Stage 3: features once, the head on them, and one pyfunc that holds it all.

Reads artifacts/data_ingestion and artifacts/prepare_base_model; writes artifacts/training.
"""

from __future__ import annotations

import base64
import csv
import dataclasses
import io
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.artefact import NETWORK, Card, Head
from model.decision import HEALTHY, healthy_classes
from model.features import feature_count
from model.keras_network import build_base, build_head, with_head
from model.network import export
from model.out_of_domain import OutOfDomain
from model.packaging import save_pyfunc
from model.series_thinning import SPACING_MM
from scans.manifest import ManifestRow, read_manifest, read_summary
from scans.phantom.drawing import make_phantom
from steps.base import Base, quantisation_scans, read_base
from steps.errors import StageError, one_sentence_errors
from steps.folders import replaced_folder
from steps.options import StageCommand, folder_option, section_options
from steps.parameters import LabelLevel, Training
from steps.settings import changed
from steps.tensorflow_quietly import import_quietly
from steps.tracking import print_progress, run_name, source_of, stage_run, started_by_main
from steps.training import log as training_log
from steps.training.augmentation import Augmentation
from steps.training.features import FEATURES, FeatureSet, scan_features, write_features
from steps.training.fine_tuning import FineTuning, fine_tune
from steps.training.head import HeadSettings, fit_head
from steps.training.multiple_instance import telling_slices
from steps.training.operating_limits import fit_operating_limits
from steps.training.record import OutOfDomainRecord, TrainingRecord
from steps.training.series import SeriesFit, fit_series
from steps.training.series_bags import labels_are_of_series
from steps.training.training_scans import FILE as TRAINING_SCANS
from steps.training.training_scans import training_scans

HISTORY = "history.csv"

Labelled = tuple[NDArray[np.float32], NDArray[np.int64]]


@dataclasses.dataclass(frozen=True)
class Trained:
    """What training tells its caller; the model is in the output folder."""

    history: list[dict[str, float]]  # a row per epoch of the head
    card: Card
    scans: dict[str, int]  # training and validation scans


def training(
    data: Path,
    prepared: Path,
    output: Path,
    *,
    head_settings: HeadSettings,
    augmentation: Augmentation,
    fine_tuning: FineTuning,
    sensitivity: float,
    flagged_share: float,
    seed: int,
    undecided_error_rate: float = 0.05,
    healthy_patterns: str = HEALTHY,
    series_spacing_mm: float = SPACING_MM,
    label_level: LabelLevel = "auto",
) -> Trained:
    """Train the head, or the last blocks and the head, and save the model.

    Args:
        data: what data_ingestion wrote.
        prepared: what prepare_base_model wrote.
        output: receives model/ (the pyfunc), model.keras (the same network in full precision,
            pixels to probabilities), history.csv, features.npz and training.json (how it was
            trained). Appears only when whole.
        head_settings: of the head's training.
        augmentation: the views of every scan.
        fine_tuning: of the last blocks.
        sensitivity: that the stored threshold is to reach, 0-1.
        flagged_share: of chest CT that may be called out of domain at most, 0-1.
        seed: of views, batches and dropout. One seed gives one model.
        undecided_error_rate: share of each class that prediction sets may miss, 0-1.
        healthy_patterns: of the classes that are no disease, see `healthy_of`.
        series_spacing_mm: slices of a series nearer than this are thinned; 0 keeps all.
        label_level: what a label speaks of, see `labels_are_of_series`.

    Raises:
        StageError: the data, or a class in them, or the base is missing or does not fit.
    """
    import_quietly()
    base = read_base(prepared)
    every_row = read_manifest(data)
    rows = [row for row in every_row if row.split in ("train", "validation")]
    _check_classes(rows, base)
    healthy = healthy_of(base.classes, healthy_patterns)
    summary = read_summary(data)
    side = base.preprocessing.image_size_px
    keras_base = build_base(base.tensors(), side, base.feature_blocks)
    keras_head = build_head(feature_count(keras_base.output_shape[1:]), len(base.classes))
    with replaced_folder(output, keep=(FEATURES,)) as folder:
        network = folder / "network"
        network.mkdir()
        if fine_tuning.blocks:
            base = _fine_tuned_base(
                base, keras_base, keras_head, data, rows, network, augmentation, fine_tuning, seed
            )
        features = scan_features(data, rows, base, augmentation, seed, cache=output)
        write_features(features, folder)
        of_series = labels_are_of_series(rows, base.classes, healthy, label_level)
        kept = None
        if of_series:
            print_progress("choosing the slices that tell, since labels are of series")
            kept = telling_slices(
                features.vectors, rows, base.classes, healthy, head_settings, seed
            )
        train, validation = (
            _labelled(features, rows, s, base, kept) for s in ("train", "validation")
        )
        print_progress(f"training the head on {len(train[1])} views of {base.classes}")
        head, history = fit_head(
            keras_head, train, validation if len(validation[1]) else None, head_settings, seed
        )
        print_progress("calibrating on held-out groups")
        calibration, out_of_domain = fit_operating_limits(
            features, rows, base.classes, head_settings, sensitivity, flagged_share,
            undecided_error_rate, healthy, seed, kept,
        )  # fmt: skip
        series = fit_series(
            features.vectors, rows, calibration, base.classes, healthy, head_settings, kept,
            spacing_mm=series_spacing_mm, sensitivity=sensitivity,
            undecided_error_rate=undecided_error_rate, seed=seed,
        )  # fmt: skip
        card = Card(
            classes=base.classes,
            preprocessing=base.preprocessing,
            precision=base.precision,
            data_digest=summary["data_digest"],
            phantom=summary["phantom"],
            temperature=calibration.temperature,
            threshold=calibration.threshold,
            conformal=calibration.conformal,
            healthy_classes=healthy,
            series=series.answer,
            series_spacing_mm=series_spacing_mm,
        )
        whole = with_head(keras_base, head)
        _save(folder, network, base, head, out_of_domain, series, card, whole)
        seen = training_scans(data, every_row, summary.get("group_distance_bits"))
        seen.write(folder / "model" / TRAINING_SCANS)
        TrainingRecord(
            head=head_settings,
            augmentation=augmentation,
            seed=seed,
            fine_tuned_blocks=fine_tuning.blocks,
            sensitivity=sensitivity,
            calibration=calibration.report,
            out_of_domain=OutOfDomainRecord(
                out_of_domain.threshold, len(out_of_domain.references), flagged_share
            ),
            series=series.report | {"labels": "series" if of_series else "slice"},
        ).write(folder)
        _write_history(history, folder)
    counts = {s: sum(row.split == s for row in rows) for s in ("train", "validation")}
    return Trained(history, card, counts)


def _check_classes(rows: Sequence[ManifestRow], base: Base) -> None:
    found = {row.label for row in rows if row.split == "train"}
    if found != set(base.classes):
        raise StageError(
            f"Expected training scans of {', '.join(base.classes)}; found "
            f"{', '.join(sorted(found)) or 'none'}. Run prepare_base_model again, or give each "
            "class more scans."
        )


def healthy_of(classes: Sequence[str], patterns: str) -> tuple[str, ...]:
    """Return the classes that are no disease.

    Args:
        classes: names.
        patterns: with the wildcards * ? [ ], divided by semicolons, in any case of letters.

    Returns:
        Their names; none where only the default is asked for and no class has that name.

    Raises:
        StageError: a pattern fits no class, or every class is healthy.
    """
    wanted = [pattern.strip() for pattern in patterns.split(";") if pattern.strip()]
    idle = [pattern for pattern in wanted if not healthy_classes(classes, [pattern])]
    if idle and patterns.strip() != HEALTHY:
        raise StageError(
            f"Expected healthy_classes to name classes of {', '.join(classes)}; no class fits "
            f"{', '.join(idle)}. Change healthy_classes."
        )
    found = healthy_classes(classes, wanted)
    if found and len(found) == len(classes):
        raise StageError(
            f"Expected healthy_classes to leave a disease among {', '.join(classes)}; every class "
            f"is healthy by {patterns!r}. Change healthy_classes."
        )
    return tuple(found)


def _fine_tuned_base(
    base: Base,
    keras_base: Any,
    keras_head: Any,
    data: Path,
    rows: Sequence[ManifestRow],
    network: Path,
    augmentation: Augmentation,
    settings: FineTuning,
    seed: int,
) -> Base:
    """Fine-tune, then export and quantise the changed network as prepare_base_model did."""
    training_rows = [row for row in rows if row.split == "train"]
    fine_tune(keras_base, keras_head, data, training_rows, base, augmentation, settings, seed)
    scans = quantisation_scans(data, base.calibration_images, base.preprocessing, seed)
    tensors = keras_base.get_weights()
    side = base.preprocessing.image_size_px
    path = network / "base.xml"
    export(tensors, side, path, base.precision, scans, feature_blocks=base.feature_blocks)
    return dataclasses.replace(base, folder=network)


def _labelled(
    features: FeatureSet,
    rows: Sequence[ManifestRow],
    split: str,
    base: Base,
    kept: NDArray[np.bool_] | None,
) -> Labelled:
    """Return the views of a split's scans as (views, features), with a class index each."""
    chosen = [i for i, row in enumerate(rows) if row.split == split and (kept is None or kept[i])]
    vectors = features.vectors[chosen]
    labels = np.array([base.classes.index(rows[i].label) for i in chosen], dtype=np.int64)
    return vectors.reshape(-1, vectors.shape[-1]), labels.repeat(vectors.shape[1])


def _save(
    folder: Path,
    network: Path,
    base: Base,
    head: Head,
    out_of_domain: OutOfDomain,
    series: SeriesFit,
    card: Card,
    whole: Any,
) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        carried = Path(scratch) / "network"
        carried.mkdir()
        for source in (base.network, base.network.with_suffix(".bin")):
            shutil.copyfile(source, carried / Path(NETWORK).with_suffix(source.suffix))
        head.write(carried)
        out_of_domain.write(carried)
        if series.attention is not None:
            series.attention.write(carried)
        card.write(carried)
        print_progress("saving the pyfunc and trying it on its input example")
        save_pyfunc(folder / "model", carried, card, example_scan())
    shutil.rmtree(network)
    whole.save(folder / "model.keras")


def example_scan() -> str:
    """Return base64 text of a PNG that anyone may see: a phantom."""
    png = io.BytesIO()
    Image.fromarray(make_phantom(0, nodule=True).image).save(png, "PNG")
    return base64.b64encode(png.getvalue()).decode("ascii")


def _write_history(history: list[dict[str, float]], folder: Path) -> None:
    with (folder / HISTORY).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(history[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)


@click.command(cls=StageCommand, help=__doc__)
@folder_option("data", "artifacts/data_ingestion", "What data_ingestion wrote.")
@folder_option("prepared", "artifacts/prepare_base_model", "What prepare_base_model wrote.")
@folder_option("output", "artifacts/training", "Folder to write.")
@one_sentence_errors
@section_options(Training)
def main(settings: Training, data: Path, prepared: Path, output: Path) -> None:
    name = run_name(settings.section, source_of(data), changed(settings))
    with stage_run(settings.section, name):
        training_log.log_inputs(settings.model_dump(), data)
        result = training(
            data,
            prepared,
            output,
            head_settings=HeadSettings(**_fields(HeadSettings, settings)),
            augmentation=Augmentation(**_fields(Augmentation, settings)),
            fine_tuning=FineTuning(
                settings.fine_tune_blocks,
                settings.fine_tune_epochs,
                settings.fine_tune_learning_rate,
                settings.fine_tune_batch_size,
            ),
            sensitivity=settings.sensitivity,
            flagged_share=settings.flagged_share,
            seed=settings.seed,
            undecided_error_rate=settings.undecided_error_rate,
            healthy_patterns=settings.healthy_classes,
            series_spacing_mm=settings.series_spacing_mm,
            label_level=settings.label_level,
        )
        training_log.log_outputs(result.history, output)
    if not started_by_main():
        last = result.history[-1]
        click.echo(json.dumps(result.scans | {"epochs": len(result.history)} | last))


def _fields(kind: Any, settings: Training) -> dict[str, Any]:
    return {field.name: getattr(settings, field.name) for field in dataclasses.fields(kind)}


if __name__ == "__main__":
    main()
