"""What a version must show before it may move to Staging, and how results are described."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from steps.evaluation.baselines import brightness_baseline, majority_baseline
from steps.gates.clean_process import Answers, Row, ScoringError, score
from steps.gates.comparison import (
    TEST,
    MissingScansError,
    Scan,
    answered_accuracy,
    scan_files,
)

SUM_TOLERANCE = 1e-3  # of probabilities that were rounded to float32 on their way


@dataclass(frozen=True)
class Gate:
    """The result of one gate."""

    name: str
    passed: bool | None  # None: it could not be run
    sentence: str
    numbers: dict[str, float] = field(default_factory=dict)

    @property
    def result(self) -> str:
        """Return passed, failed or not run."""
        return "not run" if self.passed is None else "passed" if self.passed else "failed"


@dataclass(frozen=True)
class StoredModel:
    """A version's artefacts, fetched from the registry."""

    number: int
    folder: Path  # of the pyfunc
    metadata: Mapping[str, Any]  # of its MLmodel
    scans: Sequence[Scan]  # all that it was trained, validated and tested on


def staging_gates(candidate: StoredModel, data: Path) -> list[Gate]:
    """Run the gates to Staging: it loads and answers, and beats both baselines."""
    test = [scan for scan in candidate.scans if scan.split == TEST]
    train = [scan for scan in candidate.scans if scan.split == "train"]
    missing = None
    try:
        test_files, train_files = scan_files(test, data), scan_files(train, data)
        if not test or not train:
            missing = "its manifest has no test or no training scans"
    except MissingScansError as error:
        missing, test_files, train_files = str(error), [], []
    try:
        answers = score(candidate.folder, test_files)
    except ScoringError as error:
        failed = f"version {candidate.number} could not be scored: {error}"
        return [Gate(name, False, failed) for name in ("loads", "majority", "brightness")]
    gates = [_answers_its_example(answers, candidate.metadata)]
    if missing:
        return [*gates, *(Gate(name, None, missing) for name in ("majority", "brightness"))]
    labels = [scan.label for scan in test]
    train_labels = [scan.label for scan in train]
    own = answered_accuracy(labels, predicted_labels(answers.rows))
    baselines = {
        "majority": majority_baseline(train_labels, len(test)),
        "brightness": brightness_baseline(
            (file.read_bytes() for file in train_files),
            train_labels,
            (file.read_bytes() for file in test_files),
        ),
    }
    for name, predicted in baselines.items():
        other = answered_accuracy(labels, predicted)
        word = "beats" if own > other else "does not beat"
        gates.append(
            Gate(
                name,
                own > other,
                f"balanced accuracy {own:.3f} {word} {other:.3f} of the {name} baseline "
                f"on {len(test)} test scans",
                {"balanced_accuracy": own, "baseline": other, "n": len(test)},
            )
        )
    return gates


def trial_gates(candidate: StoredModel) -> list[Gate]:
    """Run the gates to Trial: it is trained on phantoms, so nobody can take it for more; it loads.

    Real models have the way through Staging, where they are compared and scored elsewhere.
    """
    phantom = candidate.metadata.get("phantom") is True
    word = "is trained on phantoms" if phantom else "is not trained on phantoms; try it in Staging"
    gates = [Gate("phantom", phantom, f"version {candidate.number} {word}")]
    try:
        answers = score(candidate.folder, [])
    except ScoringError as error:
        failed = f"version {candidate.number} could not be scored: {error}"
        return [*gates, Gate("loads", False, failed)]
    return [*gates, _answers_its_example(answers, candidate.metadata)]


def _answers_its_example(answers: Answers, metadata: Mapping[str, Any]) -> Gate:
    if answers.example is None:
        return Gate("loads", False, "it loads, but carries no input example to answer")
    if not answers.example:
        return Gate("loads", False, "it answers its input example with no row")
    for row in answers.example:
        complaint = invalid_row(row, metadata.get("classes"))
        if complaint:
            return Gate(
                "loads", False, f"its answer to its own input example is wrong: {complaint}"
            )
    first = answers.example[0]
    return Gate(
        "loads",
        True,
        f"loads in a clean process and answers its input example: {first['label']}, "
        f"probability {first['probability']:.3f}",
        {"probability": float(first["probability"])},
    )


def invalid_row(row: Row, classes: Sequence[str] | None) -> str | None:
    """Return what is wrong with a row of a pyfunc that should hold an answer, None if nothing."""
    names = list(classes or [key[2:] for key in row if key.startswith("p_")])
    expected = ["label", "probability", *(f"p_{name}" for name in names), "error"]
    if list(row)[: len(expected)] != expected or not names:
        return f"expected the columns {', '.join(expected)}, received {', '.join(row)}"
    if row["error"] is not None:
        return f"its error column says: {row['error']}"
    if row["label"] not in names:
        return f"label {row['label']!r} is none of {', '.join(names)}"
    probabilities = [row[f"p_{name}"] for name in names]
    numbers = [row["probability"], *probabilities]
    if not all(isinstance(p, int | float) and 0 <= p <= 1 for p in numbers):
        return f"expected probabilities from 0 to 1, received {numbers}"
    if not math.isclose(sum(probabilities), 1, abs_tol=SUM_TOLERANCE):
        return f"the probabilities sum to {sum(probabilities):.4f} instead of 1"
    if not math.isclose(row["probability"], row[f"p_{row['label']}"], abs_tol=SUM_TOLERANCE):
        return f"probability {row['probability']:.4f} is not that of its label"
    return None


def predicted_labels(rows: Sequence[Row]) -> list[str | None]:
    """Return the label of each row, None for a scan that could not be scored."""
    return [row.get("label") for row in rows]
