"""Stage 4: the pyfunc, scored on the test split from file bytes.

Reads artifacts/data_ingestion and artifacts/training; writes scores.json and artifacts/evaluation.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import mlflow.pyfunc
import numpy as np
import pandas as pd
from mlflow.models import Model
from numpy.typing import NDArray

from model.artefact import Card, model_digest
from model.decision import labels, probabilities
from model.packaging import PACKAGE
from model.preprocessing import scan_pixels
from scans.manifest import ManifestRow, read_manifest
from steps.errors import StageError, one_sentence_errors, read_of
from steps.evaluation.context import context_sections, start_protocols
from steps.evaluation.context_plots import write_context
from steps.evaluation.facts import write_facts
from steps.evaluation.gallery import write_gallery
from steps.evaluation.intervals import group_intervals
from steps.evaluation.known_patients import known_patients
from steps.evaluation.operating import sensitivity_floor, undecided_section
from steps.evaluation.plots import write_plots
from steps.evaluation.record import record as record_run
from steps.evaluation.report import write_report
from steps.evaluation.series import PREDICTIONS, answers_by_digest
from steps.evaluation.test_split import predict_scans, series_of_test_split
from steps.evaluation.workers import workers
from steps.folders import replaced_folder, write_whole
from steps.headline import headline
from steps.headline_metrics import FEW, headline_metrics
from steps.metrics import scores
from steps.options import StageCommand, folder_option, section_options
from steps.parameters import Evaluation
from steps.settings import changed
from steps.tensorflow_quietly import import_quietly
from steps.tracking import (
    log_params,
    print_progress,
    run_name,
    source_of,
    stage_run,
    started_by_main,
)
from steps.training.record import read_record

NETWORK_FOLDER = Path("artifacts", "network")  # of a saved pyfunc
METRICS = "metrics.json"
KERAS_BATCH = 8  # scans handed to Keras at a time


def evaluation(
    data: Path,
    trained: Path,
    output: Path,
    scores_path: Path,
    *,
    protocol_repeats: int,
    stress: bool,
) -> dict[str, Any]:
    """Score the test split and compare the pyfunc with the full-precision network.

    Args:
        data: what data_ingestion wrote.
        trained: what training wrote.
        output: receives report.html, predictions.csv, where series are known
            series_predictions.csv, what it shows as .png and .csv, facts.json (when, by what, on
            what), gallery/ and metrics.json (for `dvc metrics show`).
        scores_path: receives the scores as JSON, last of all.
        protocol_repeats: shuffles of the cross-validated protocols; 0 leaves them out.
        stress: whether to score changed test scans too.

    Returns:
        The scores.

    Raises:
        StageError: the model or the test scans are missing.
    """
    folder = trained / "model"
    if not (folder / "MLmodel").is_file():
        raise StageError(f"{folder} holds no model. Run training first: dvc repro training")
    every_row = read_manifest(data)
    rows = [row for row in every_row if row.split == "test"]
    if not rows:
        raise StageError(f"{data} has no test scans. Raise data_ingestion.test_fraction.")
    with read_of(folder / NETWORK_FOLDER, "training"):
        card = Card.read(folder / NETWORK_FOLDER)
    print_progress(f"scoring {len(rows)} test scans")
    model = mlflow.pyfunc.load_model(str(folder))
    with workers(protocol_repeats * len(every_row)) as executor:
        protocols = start_protocols(executor, data, trained, every_row, card, protocol_repeats)
        scored = predict_scans(model, data, rows)
        predictions = scored.rows
        _refuse_errors(predictions)
        p = predictions[[f"p_{name}" for name in card.classes]].to_numpy(np.float64)
        index = {name: i for i, name in enumerate(card.classes)}
        actual = np.array([index[row.label] for row in rows], dtype=np.int64)
        predicted = np.array([index[label] for label in predictions["label"]], dtype=np.int64)
        result = scores(actual, predicted, p, card.classes, card.healthy_classes)
        groups = np.array([row.group for row in rows])
        result |= group_intervals(actual, predicted, p, groups, card.classes)
        record = read_record(trained)
        result["sensitivity_floor"] = sensitivity_floor(result["sensitivity"], record, card)
        result["undecided"] = undecided_section(p, actual, card)
        if scored.answers is not None:
            result["series"] = series_of_test_split(scored.answers, data, rows, card)
        result["patients"] = known_patients(every_row)
        result["phantom"] = card.phantom
        result["model_digest"] = digest_of(folder)  # whose scores they are
        print_progress("comparing with the full-precision network")
        reference = keras_probabilities(trained, data, rows, card)
        result["agreement_with_keras"] = agreement(p, reference, card)
        result |= context_sections(model, data, trained, every_row, predictions, card, stress)
        if protocol_repeats:
            print_progress("cross-validating under each protocol")
            result["protocol"] = protocols()
    with replaced_folder(output) as folder:
        # Known by digest: file names may name patients, and this goes to the tracking server.
        predictions.drop(columns="path").to_csv(folder / "predictions.csv", index=False)
        if scored.answers is not None:
            series = answers_by_digest(scored.answers, [row.sha256 for row in rows])
            series.to_csv(folder / PREDICTIONS, index=False)
        write_plots(folder, actual, predicted, p, card.classes)
        write_context(folder, data, every_row, result, actual, p, card.temperature)
        write_gallery(folder, model, data, rows, predictions, card)
        write_facts(folder, data, result)
        few = {name: value for name, value in headline_metrics(result).items() if name in FEW}
        (folder / METRICS).write_text(json.dumps(few, indent=2) + "\n", encoding="utf-8")
        write_report(folder, result)
    write_whole(scores_path, json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    return result


def digest_of(folder: Path) -> str:
    """Return the digest of a saved pyfunc as it lies there, also where it was changed by hand."""
    return model_digest(folder / "loader.py", folder / "code" / PACKAGE, folder / NETWORK_FOLDER)


def refuse_changed(folder: Path) -> None:
    """Refuse to register a model under the digest of another.

    Raises:
        StageError: files that decide its answers are not those that were saved.
    """
    stated = (Model.load(str(folder)).metadata or {}).get("model_digest")
    if stated != digest_of(folder):
        raise StageError(
            f"The model in {folder} was changed after it was saved and cannot be registered: its "
            f"digest is {digest_of(folder)[:12]}…, expected {str(stated)[:12]}…. Save it again: "
            "dvc repro --force training"
        )


def keras_probabilities(
    trained: Path, data: Path, rows: Sequence[ManifestRow], card: Card
) -> NDArray[np.float64]:
    """Score scans with model.keras, the float32 network, at the card's temperature.

    Returns:
        Probabilities (n, classes).
    """
    import_quietly()
    import keras

    whole = trained / "model.keras"
    with read_of(whole, "training"):
        network = keras.models.load_model(whole)
    parts = []
    for start in range(0, len(rows), KERAS_BATCH):
        files = [(data / row.path).read_bytes() for row in rows[start : start + KERAS_BATCH]]
        pixels = np.stack([scan_pixels(file, card.preprocessing) for file in files])
        parts.append(np.asarray(network(pixels)))
    p = np.concatenate(parts)
    # The network ends in a softmax; a logarithm gives its logits back, up to a constant.
    logits = np.log(np.maximum(p, np.finfo(np.float32).tiny))
    return probabilities(logits, card.temperature)


def agreement(
    p: NDArray[np.float64], reference: NDArray[np.float64], card: Card
) -> dict[str, float]:
    """Tell how far probabilities, and the labels at the card's threshold, are from a reference's.

    Args:
        p: (n, classes).
        reference: likewise, of the same scans.
        card: the model's classes and threshold.
    """
    difference = np.abs(p - reference)
    here, there = (
        labels(each, card.classes, card.threshold, card.healthy_classes, stored=True)
        for each in (p, reference)
    )
    return {
        "same_label": float((here == there).mean()),
        "largest_probability_difference": float(difference.max()),
        "mean_probability_difference": float(difference.mean()),
    }


def _refuse_errors(predictions: pd.DataFrame) -> None:
    failed = predictions[predictions["error"].notna()]
    if len(failed):
        raise StageError(
            f"{len(failed)} test scans could not be scored, the first ({failed.iloc[0]['path']}): "
            f"{failed.iloc[0]['error']} Run data_ingestion again."
        )


@click.command(cls=StageCommand, help=__doc__)
@folder_option("data", "artifacts/data_ingestion", "What data_ingestion wrote.")
@folder_option("trained", "artifacts/training", "What training wrote.")
@folder_option("output", "artifacts/evaluation", "Folder to write.")
@click.option(
    "--scores",
    "scores_path",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("scores.json"),
    help="File to write all scores into.",
)
@one_sentence_errors
@section_options(Evaluation)
def main(settings: Evaluation, data: Path, trained: Path, output: Path, scores_path: Path) -> None:
    name = run_name(settings.section, source_of(data), changed(settings))
    with stage_run(settings.section, name) as run:
        log_params(settings.model_dump(by_alias=True))
        if settings.register_model and (trained / "model" / "MLmodel").is_file():
            refuse_changed(trained / "model")
        result = evaluation(
            data,
            trained,
            output,
            scores_path,
            protocol_repeats=settings.protocol_repeats,
            stress=settings.stress,
        )
        version = record_run(
            run, result, settings, data=data, trained=trained, output=output,
            scores_path=scores_path,
        )  # fmt: skip
        if version is not None:
            click.echo(f"registered model  {settings.registered_model_name} version {version}")
    if not started_by_main():  # which prints the scores at its end
        click.echo(headline(scores_path))


if __name__ == "__main__":
    main()
