"""What a registered version says of itself: the first screen of its model card, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from steps.headline_metrics import at

NOTICE = "**Research software, not a medical device.** Not for any decision about a person."
SYNTHETIC = (
    "**SYNTHETIC: trained on computer-drawn phantoms, not on scans of people.** What it answers "
    "about a scan of a person means nothing; it is there to try the system with."
)
ROWS = {  # title -> where the value and its 95 % interval lie in scores.json
    "AUC": ("roc_auc", "roc_auc_ci95"),
    "sensitivity": ("sensitivity.value", "sensitivity.ci95"),
    "specificity": ("specificity.value", "specificity.ci95"),
    "balanced accuracy": ("balanced_accuracy", "balanced_accuracy_ci95"),
}
DIGEST_CHARACTERS = 12


def describe(
    metadata: Mapping[str, Any],
    scores: Mapping[str, Any],
    external: Mapping[str, Mapping[str, Any]] | None = None,
) -> str:
    """Describe a version.

    Args:
        metadata: of its MLmodel.
        scores: scores.json of its own evaluation; what it lacks is left out.
        external: by name of the set, what the tag `external.<name>` says.
    """
    parts = [
        NOTICE,
        SYNTHETIC if metadata.get("phantom") else "",
        _what(metadata),
        _table(scores, external or {}),
        _elsewhere(external or {}),
        *_warnings(scores),
        "All numbers: `registry/scores.json` and `evaluation/report.html` of the source run.",
    ]
    return "\n\n".join(part for part in parts if part)


def _what(metadata: Mapping[str, Any]) -> str:
    classes = metadata.get("classes") or []
    named = " or ".join(classes) if len(classes) == 2 else ", ".join(classes)
    known = {
        "input": f"{metadata.get('image_size_px')} px" if metadata.get("image_size_px") else None,
        "precision": metadata.get("precision"),
        "model digest": str(metadata.get("model_digest"))[:DIGEST_CHARACTERS],
        "data digest": str(metadata.get("data_digest"))[:DIGEST_CHARACTERS],
    }
    facts = "; ".join(f"{name} {value}" for name, value in known.items() if value)
    return f"Calls an axial chest CT slice {named or 'one of its classes'}. ({facts})"


def _table(scores: Mapping[str, Any], external: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the scores with their intervals, a column for each set of scans."""
    columns = [f"own test split, n = {scores['n']}"] if "n" in scores else []
    columns += [f"{name}, n = {result.get('scans')}" for name, result in external.items()]
    lines = []
    for title, (value, interval) in ROWS.items():
        cells = [_cell(at(scores, value), at(scores, interval))] if "n" in scores else []
        measure = value.partition(".")[0]
        cells += [_cell(r.get(measure), r.get(f"{measure}_ci95")) for r in external.values()]
        if any(cells):
            lines.append(f"| {title} | {' | '.join(cells)} |")
    if not lines:
        return ""
    head = f"| 95 % intervals in brackets | {' | '.join(columns)} |"
    return "\n".join([head, "|---" * (len(columns) + 1) + "|", *lines])


def _cell(value: float | None, interval: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" + (f" ({interval[0]:.3f}–{interval[1]:.3f})" if interval else "")


def _elsewhere(external: Mapping[str, Mapping[str, Any]]) -> str:
    if external:
        return "The sets beside the test split are scans that the model was not made from."
    return (
        "**Scored on no scans from elsewhere**: the numbers say how it does on scans like its "
        "training scans, and nothing about other sites."
    )


def _warnings(scores: Mapping[str, Any]) -> list[str]:
    """Return what a reader of the table must know besides it."""
    found = []
    grouped = at(scores, "protocol.protocols.grouped.model_at_threshold.balanced_accuracy")
    if grouped:
        text = _cell(grouped["mean"], grouped.get("ci95"))
        found.append(f"Cross-validated with near-duplicates together: balanced accuracy {text}.")
    worst = at(scores, "stress.worst")
    if worst:
        found.append(
            f"Worst of the stress tests: {worst['row']}, balanced accuracy "
            f"{worst['balanced_accuracy']:.3f}."
        )
    floor = scores.get("sensitivity_floor")
    if floor and floor["missed"]:
        how = "beyond chance" if floor["surely_missed"] else "within chance"
        found.append(f"The stated sensitivity of {floor['stated']:.3f} is missed, {how}.")
    return found
