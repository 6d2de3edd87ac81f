"""What a version must show before it may move to Production."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from steps.gates.clean_process import ScoringError, score
from steps.gates.comparison import (
    TEST,
    MissingScansError,
    Scan,
    paired_bootstrap,
    scan_files,
    scans_unseen_by,
    sensitivity,
)
from steps.gates.staging import Gate, StoredModel, predicted_labels


@dataclass(frozen=True)
class Margins:
    """How much worse than the incumbent a candidate may be, and how that is tested."""

    balanced_accuracy_margin: float
    sensitivity_margin: float
    confidence: float
    bootstrap_replicates: int
    min_test_scans: int
    external_auc_floor: float
    seed: int


def production_gates(
    candidate: StoredModel,
    incumbent: StoredModel | Exception | None,
    *,
    through_staging: bool,
    external: Gate,
    data: Path,
    margins: Margins,
) -> list[Gate]:
    """Run the gates to Production: through Staging, no phantom, good elsewhere, not worse.

    Args:
        candidate: the version that is to move.
        incumbent: the one in Production; None where there is none, the error where it cannot be
            fetched, which leaves the comparison undone.
        through_staging: whether the candidate was promoted to Staging.
        external: result of `steps.gates.external.external_gate`.
        data: an ingested folder on this machine.
        margins: how much worse the candidate may be.
    """
    said = "was promoted to Staging before" if through_staging else "was never promoted to Staging"
    phantom = candidate.metadata.get("phantom")
    data_said = {True: "is trained on phantom scans", False: "is not trained on phantom scans"}.get(
        phantom if isinstance(phantom, bool) else None,  # type: ignore[arg-type]
        "does not say whether it is trained on phantom scans",
    )
    return [
        Gate("staging", through_staging, f"version {candidate.number} {said}"),
        Gate("no phantom", phantom is False, f"version {candidate.number} {data_said}"),
        external,
        *_compared(candidate, incumbent, data, margins),
    ]


def _compared(
    candidate: StoredModel, incumbent: StoredModel | Exception | None, data: Path, margins: Margins
) -> list[Gate]:
    names = ("balanced accuracy", "sensitivity")
    if incumbent is None:
        return [Gate(name, True, "nothing is in Production to compare with") for name in names]
    if isinstance(incumbent, Exception):
        return [Gate(name, None, str(incumbent)) for name in names]
    scans = scans_unseen_by(incumbent.scans, candidate.scans)
    n_test = sum(scan.split == TEST for scan in candidate.scans)
    if len(scans) < margins.min_test_scans or len({scan.label for scan in scans}) < 2:
        sentence = (
            f"of {n_test} test scans {len(scans)} are not tied to the training of version "
            f"{incumbent.number}; at least {margins.min_test_scans} of two classes are needed"
        )
        return [Gate(name, False, sentence, {"n": len(scans)}) for name in names]
    try:
        files = scan_files(scans, data)
    except MissingScansError as error:
        return [Gate(name, None, str(error)) for name in names]
    predictions = {}
    for role, model in (("candidate", candidate), ("incumbent", incumbent)):
        try:
            predictions[role] = predicted_labels(score(model.folder, files).rows)
        except ScoringError as error:
            sentence = f"version {model.number} could not be scored: {error}"
            return [Gate(name, False, sentence) for name in names]
    on = f"on {len(scans)} of {n_test} test scans, those version {incumbent.number} never saw"
    return [
        _balanced_accuracy_gate(scans, predictions, margins, on),
        _sensitivity_gate(scans, predictions, margins, on),
    ]


def _balanced_accuracy_gate(
    scans: Sequence[Scan], predictions: Mapping[str, list[str | None]], margins: Margins, on: str
) -> Gate:
    difference = paired_bootstrap(
        scans,
        predictions,
        confidence=margins.confidence,
        replicates=margins.bootstrap_replicates,
        seed=margins.seed,
    )
    margin = margins.balanced_accuracy_margin
    return Gate(
        "balanced accuracy",
        difference.lower_bound >= -margin,
        f"{difference.candidate:.3f} against {difference.incumbent:.3f} {on}; difference "
        f"{difference.value:+.3f}, {margins.confidence:.0%} lower bound "
        f"{difference.lower_bound:+.3f}, at least {-margin:+.3f} is asked",
        asdict(difference) | {"margin": margin, "n": len(scans)},
    )


def _sensitivity_gate(
    scans: Sequence[Scan], predictions: Mapping[str, list[str | None]], margins: Margins, on: str
) -> Gate:
    labels = [scan.label for scan in scans]
    new, old = (sensitivity(labels, predictions[role]) for role in ("candidate", "incumbent"))
    margin = margins.sensitivity_margin
    return Gate(
        "sensitivity",
        old - new <= margin + 1e-12,  # so that a fall of exactly the margin passes
        f"{new:.3f} against {old:.3f} {on}; change {new - old:+.3f}, at least {-margin:+.3f} "
        "is asked",
        {"candidate": new, "incumbent": old, "margin": margin, "n": len(scans)},
    )
