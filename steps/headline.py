"""The scores that a person reads first."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def headline(scores_path: Path) -> str:
    """Return the scores that a person reads first, as lines of text."""
    result = json.loads(scores_path.read_text(encoding="utf-8"))
    low, high = result["accuracy_ci95"]
    lines = [
        f"accuracy          {result['accuracy']:.3f}  (95 % interval {low:.3f} to {high:.3f}, "
        f"n = {result['n']})",
        f"balanced accuracy {result['balanced_accuracy']:.3f}",
        f"loss              {result['loss']:.3f}",
    ]
    for name in ("sensitivity", "specificity"):
        if result[name] is not None and result[name]["n"]:
            low, high = result[name]["ci95"]
            lines.append(
                f"{name:<17} {result[name]['value']:.3f}  (95 % interval {low:.3f} to {high:.3f}, "
                f"n = {result[name]['n']})"
            )
    floor = result.get("sensitivity_floor")
    if floor and floor["missed"]:
        how = "beyond chance" if floor["surely_missed"] else "within chance"
        lines.append(
            f"floor missed      a sensitivity of {floor['stated']:.3f} is stated; the test split's "
            f"{floor['value']:.3f} is below it, {how}"
        )
    if floor and floor["held_out"] and not floor["held_out"]["reached"]:
        lines.append(
            f"floor unproven    on held-out groups the sensitivity is at least "
            f"{floor['held_out']['lower_bound']:.3f}, with 95 % confidence; "
            f"{floor['stated']:.3f} is stated"
        )
    if result.get("undecided"):
        share = result["undecided"]["undecided"]["value"]
        lines.append(f"undecided         {share:.3f}  (share of the test scans)")
    if result["roc_auc"] is not None:
        lines.append(f"ROC AUC           {result['roc_auc']:.3f}")
    if result.get("series"):
        lines += series_lines(result["series"])
    if "protocol" in result and result["protocol"]["protocols"]["grouped"]["model_at_threshold"]:
        scored = result["protocol"]["protocols"]["grouped"]["model_at_threshold"]
        grouped = scored["balanced_accuracy"]
        lines.append(
            f"grouped CV        {grouped['mean']:.3f}  (balanced accuracy, +/- "
            f"{grouped['spread']:.3f} over the shuffles)"
        )
    if "stress" in result:
        worst = result["stress"]["worst"]
        lines.append(
            f"worst stress row  {worst['balanced_accuracy']:.3f}  (balanced accuracy, "
            f"{worst['row']})"
        )
    if result["phantom"]:
        lines.append("Synthetic phantoms: these scores say that the pipeline works, nothing more.")
    lines.append("Research software, not a medical device.")
    return "\n".join(lines)


def series_lines(section: Mapping[str, Any]) -> list[str]:
    """Return the scores of series, see `steps.evaluation.series_scores`, as one line or two."""
    counts, scored, patients = section["counts"], section["series"], section["patients"]
    of = f"{counts['series']} series" + (f", {patients['n']} patients" if patients else "")
    if counts["without_answer"]:
        of += f", {counts['without_answer']} without answer"
    measures = (("AUC", "roc_auc"), ("sensitivity", "sensitivity"), ("specificity", "specificity"))
    said = [
        f"{title} {scored[measure]['value']:.3f}"
        for title, measure in (measures if scored else ())
        if scored[measure]["value"] is not None
    ]
    lines = [f"series            {', '.join(said) or 'no answer'}  ({of})"]
    key = section["key_slice"]
    if key:
        lines.append(
            f"key slice         {key['within']['value']:.3f} within the lesion, "
            f"{key['by_chance']:.3f} by chance  ({key['series']} series)"
        )
    return lines
