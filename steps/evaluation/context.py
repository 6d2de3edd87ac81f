"""The sections of scores.json that put the test score into its context."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from model.artefact import Card, Head
from model.decision import disease_probability, healthy_indices
from model.decoding.scan_file import decode_grey
from scans.fingerprints import near_duplicate_groups, perceptual_hash
from scans.manifest import ManifestRow, read_summary
from steps.base import Base
from steps.evaluation.baselines import measurements
from steps.evaluation.intervals import balanced_accuracy_interval
from steps.evaluation.non_scans import non_scans
from steps.evaluation.protocols import (
    PROTOCOLS,
    KeptScans,
    Recipe,
    flagged_held_out,
    grouped_score,
    protocol,
)
from steps.evaluation.sources import leave_one_source_out, shortcut_audit
from steps.evaluation.stress import changed_files, stress_rows, stress_score, worst_row
from steps.metrics import roc_auc
from steps.tracking import print_progress
from steps.training.bootstrap import group_weights
from steps.training.calibration import calibration_scores, without_temperature
from steps.training.cross_validation import solve_head
from steps.training.features import scan_features
from steps.training.proportions import proportion
from steps.training.record import TrainingRecord, read_record

SWEPT_DISTANCES_BITS = (0, 20, 30, 40, 50, 60)
SWEEP_REPEATS = 5
SHORTCUTS = ("brightness", "framing", "file_size_and_format")  # of baselines.BASELINES
BATCH = 64  # changed scans handed to the pyfunc at a time
MAX_DONORS = 200  # training scans of each class whose tones may be borrowed


def context_sections(
    model: Any,
    data: Path,
    trained: Path,
    rows: Sequence[ManifestRow],
    predictions: pd.DataFrame,
    card: Card,
    stress: bool,
) -> dict[str, Any]:
    """Compute the sections that put the test score into its context and need the pyfunc.

    Args:
        model: the loaded pyfunc.
        data: what data_ingestion wrote.
        trained: what training wrote.
        rows: of all scans.
        predictions: of the test scans, in order, with `actual`.
        card: of the model.
        stress: whether to score changed test scans.

    Returns:
        `calibration`, `out_of_domain` and, as asked, `stress`; JSON-ready.
    """
    record = read_record(trained)
    actual = np.array([card.classes.index(label) for label in predictions["actual"]])
    p = predictions[[f"p_{name}" for name in card.classes]].to_numpy(np.float64)
    print_progress("scoring pictures that are no scans")
    sections = {
        "calibration": calibration_section(actual, p, card, record),
        "out_of_domain": out_of_domain_section(model, predictions, record),
    }
    if stress:
        print_progress("scoring changed scans")
        sections["stress"] = stress_section(model, data, rows, predictions, card, record.seed)
    return sections


def kept_scans(
    data: Path, trained: Path, rows: Sequence[ManifestRow], card: Card, record: TrainingRecord
) -> KeptScans:
    """Gather features and measurements of all scans; only the test scans' are computed anew."""
    network = trained / "model" / "artifacts" / "network"
    base = Base(
        folder=network,
        classes=card.classes,
        precision=card.precision,  # type: ignore[arg-type]  # a Precision once written
        preprocessing=card.preprocessing,
        calibration_images=0,
        weights_sha256="",
        file_name="network.xml",
    )
    features = scan_features(data, rows, base, record.augmentation, record.seed, cache=trained)
    measured = [
        measurements(_grey(data, row), row.width, row.height, row.mode, row.format) for row in rows
    ]
    return KeptScans(
        vectors=features.vectors,
        labels=np.array([card.classes.index(row.label) for row in rows], dtype=np.int64),
        groups=np.array([row.group for row in rows]),
        copies=np.array([row.copies for row in rows], dtype=np.int64),
        measured={name: np.stack([m[name] for m in measured]) for name in measured[0]},
        classes=card.classes,
        sources=np.array([row.source or "" for row in rows]),
        healthy=card.healthy_classes,
    )


def start_protocols(
    executor: Executor,
    data: Path,
    trained: Path,
    rows: Sequence[ManifestRow],
    card: Card,
    repeats: int,
) -> Callable[[], dict[str, Any]]:
    """Start scoring the head under each protocol and each grouping distance.

    Args:
        executor: does the work, all of which is on kept features.
        data: folder of the manifest.
        trained: what training wrote.
        rows: of all scans.
        card: of the model.
        repeats: shuffles of each protocol; 0 starts nothing.

    Returns:
        A function that waits for the work and returns the section, JSON-ready.
    """
    if not repeats:
        return dict
    record = read_record(trained)
    scans = kept_scans(data, trained, rows, card, record)
    recipe = Recipe(
        record.head.l2,
        record.head.balanced_classes,
        record.sensitivity,
        record.head.shrinkage,
    )
    seed = record.seed
    running = {
        name: executor.submit(protocol, name, scans, recipe, repeats, seed)
        for name in sorted(PROTOCOLS, key=lambda name: name != "grouped")  # the longest first
    }
    fewer = min(repeats, SWEEP_REPEATS)
    distances = _start_distances(executor, data, rows, scans, recipe, fewer, seed)
    share = record.out_of_domain.allowed_share_of_chest_ct
    flagged = executor.submit(flagged_held_out, scans, share, repeats, seed)
    sources = executor.submit(source_sections, scans, recipe, seed)

    def finished() -> dict[str, Any]:
        return {
            "protocols": {name: running[name].result() for name in PROTOCOLS},
            "group_distance_bits": read_summary(data).get("group_distance_bits"),
            "fine_tuned_blocks": record.fine_tuned_blocks,
            "flagged_held_out": flagged.result(),
            **sources.result(),
            "distances": {bits: scored.result() for bits, scored in distances.items()},
        }

    return finished


def _start_distances(
    executor: Executor,
    data: Path,
    rows: Sequence[ManifestRow],
    scans: KeptScans,
    recipe: Recipe,
    repeats: int,
    seed: int,
) -> dict[str, Future[dict[str, Any]]]:
    """Start scoring the head at each grouping distance; those that join alike are scored once."""
    hashes = [perceptual_hash(_grey(data, row)) for row in rows]
    distances, started = {}, {}
    for bits in SWEPT_DISTANCES_BITS:
        groups = np.array(near_duplicate_groups(hashes, bits))
        key = groups.tobytes()
        if key not in started:
            started[key] = executor.submit(grouped_score, scans, groups, recipe, repeats, seed)
        distances[str(bits)] = started[key]
    return distances


def source_sections(scans: KeptScans, recipe: Recipe, seed: int) -> dict[str, Any]:
    """Score the head on sources that were left out, and audit shortcuts; None where it cannot be.

    Returns:
        `leave_one_source_out` and `shortcut_audit`, see steps.evaluation.sources.
    """

    def fit(features: NDArray[np.float32], labels: NDArray[np.int64], classes: int) -> Head:
        return solve_head(features, labels, classes, recipe.l2, recipe.balanced, recipe.shrinkage)

    own = scans.vectors[:, 0]
    healthy = healthy_indices(scans.classes, scans.healthy)
    measured = {name: scans.measured[name] for name in SHORTCUTS}
    return {
        "leave_one_source_out": leave_one_source_out(
            own, scans.labels, scans.groups, scans.sources, scans.classes, fit,
            healthy, seed,
        ),
        "shortcut_audit": shortcut_audit(
            own, scans.labels, scans.groups, scans.sources, measured, fit, seed
        ),
    }  # fmt: skip


def stress_section(
    model: Any,
    data: Path,
    rows: Sequence[ManifestRow],
    predictions: pd.DataFrame,
    card: Card,
    seed: int,
) -> dict[str, Any]:
    """Score changed test scans with the pyfunc.

    Args:
        model: the loaded pyfunc.
        data: folder of the manifest.
        rows: of all scans; those of the training split lend tones.
        predictions: of the test scans as they are, in order.
        card: of the model.
        seed: of the draws.

    Returns:
        `rows` by the name of the change, and `worst`.
    """
    test = [row for row in rows if row.split == "test"]
    index = {name: i for i, name in enumerate(card.classes)}
    actual = np.array([index[row.label] for row in test], dtype=np.int64)
    before = np.array([index[label] for label in predictions["label"]], dtype=np.int64)
    donors: dict[str, list[NDArray[np.uint8]]] = {}
    for row in rows:
        if row.split == "train" and len(donors.setdefault(row.label, [])) < MAX_DONORS:
            donors[row.label].append(_grey(data, row))
    files = [(data / row.path).read_bytes() for row in test]
    groups = np.array([row.group for row in test])
    weights = group_weights(groups, seed=0)
    labels = [row.label for row in test]
    table = {}
    for name, change in stress_rows(donors).items():
        answers = predict_files(model, changed_files(files, labels, change, seed))
        predicted = np.array([index[label] for label in answers["label"]], dtype=np.int64)
        flagged = answers["out_of_domain"].to_numpy(bool)
        p = answers[[f"p_{c}" for c in card.classes]].to_numpy(np.float64)
        table[name] = stress_score(actual, predicted, before, flagged)
        table[name] |= {
            "roc_auc": roc_auc(actual, p, card.classes),
            "balanced_accuracy_ci95": balanced_accuracy_interval(
                weights, groups, actual, predicted
            ),
        }
    return {"rows": table, "worst": worst_row(table)}


def predict_files(model: Any, files: Sequence[bytes]) -> pd.DataFrame:
    """Score files with a pyfunc, some at a time."""
    parts = [
        model.predict(pd.DataFrame({"image": list(files[start : start + BATCH])}))
        for start in range(0, len(files), BATCH)
    ]
    return pd.concat(parts, ignore_index=True)


def calibration_section(
    actual: NDArray[np.int64], p: NDArray[np.float64], card: Card, record: TrainingRecord
) -> dict[str, Any]:
    """Compare confidence with accuracy on the test split, before and after the temperature.

    Args:
        actual: class indices of the test scans (n,).
        p: the pyfunc's probabilities (n, classes).
        card: of the model.
        record: of the training.
    """
    disease = disease_probability(p, card.classes, card.healthy_classes)
    return {
        "held_out_groups": record.calibration,
        "test": {
            "before": calibration_scores(without_temperature(p, card.temperature), actual),
            "after": calibration_scores(p, actual),
            "mean_disease_probability": float(disease.mean()),
        },
    }


def out_of_domain_section(
    model: Any, predictions: pd.DataFrame, record: TrainingRecord
) -> dict[str, Any]:
    """Count flags among test scans, which are chest CT, and among pictures that are not."""
    flagged = predictions["out_of_domain"].to_numpy(bool)
    kinds, found, total = {}, 0, 0
    for kind, files in non_scans().items():
        flags = predict_files(model, files)["out_of_domain"].to_numpy(bool)
        kinds[kind] = {"detected": float(flags.mean()), "n": len(flags)}
        found, total = found + int(flags.sum()), total + len(flags)
    return {
        **dataclasses.asdict(record.out_of_domain),
        "test_scans_flagged": float(flagged.mean()),
        "test_scans_flagged_ci95": proportion(int(flagged.sum()), len(flagged))["ci95"],
        "test_scans": len(flagged),
        "kinds": kinds,
        "detected": found / total,
        "detected_ci95": proportion(found, total)["ci95"],
    }


def _grey(data: Path, row: ManifestRow) -> NDArray[np.uint8]:
    return decode_grey((data / row.path).read_bytes())
