"""The counts and facts of a data set, as data and as lines for a reader."""

from __future__ import annotations

from collections import Counter
from typing import Any

from scans.prepared import Dataset, data_digest
from scans.sources import Kind, redacted
from scans.splits import SPLITS

SYNTHETIC = (
    "SYNTHETIC: these are computer-drawn phantoms, not scans of people; "
    "what is measured on them says nothing about patients."
)


def summarise(
    dataset: Dataset, source: str, kind: Kind, group_distance_bits: int
) -> dict[str, Any]:
    """Return the counts and facts of a data set that `summary.json` holds."""
    rows = dataset.rows
    labels = sorted({row.label for row in rows})
    per_class = {
        label: {
            "files": sum(row.copies for row in rows if row.label == label),
            "distinct": sum(row.label == label for row in rows),
            "groups": len({row.group for row in rows if row.label == label}),
            **{
                split: sum(row.label == label and row.split == split for row in rows)
                for split in SPLITS
            },
        }
        for label in labels
    }
    return {
        "source": redacted(source),
        "source_kind": kind,
        "phantom": kind == "phantom",
        "files": dataset.files,
        "distinct": len(rows),
        "copies": sum(row.copies - 1 for row in rows),
        "rejected": len(dataset.rejected),
        "groups": len({row.group for row in rows}),
        "groups_of_several_classes": len({(row.group, row.label) for row in rows})
        - len({row.group for row in rows}),
        "classes": per_class,
        "splits": {split: sum(row.split == split for row in rows) for split in SPLITS},
        "formats": dict(sorted(Counter(f"{row.format} {row.mode}" for row in rows).items())),
        "official_splits": dataset.official_splits,
        "groups_found_in_two_official_splits": dataset.crossing_groups,
        "group_distance_bits": group_distance_bits,
        "data_digest": data_digest(rows),
    }


def report(summary: dict[str, Any]) -> str:
    """Return the counts as lines of text for a reader."""
    lines = [
        f"{summary['files']} files, {summary['distinct']} distinct, {summary['copies']} exact "
        f"copies, {summary['rejected']} rejected, {summary['groups']} near-duplicate groups",
        f"{'class':<32}{'files':>8}{'distinct':>10}{'groups':>8}"
        + "".join(f"{split:>12}" for split in SPLITS),
    ]
    for label, counts in summary["classes"].items():
        lines.append(
            f"{label:<32}{counts['files']:>8}{counts['distinct']:>10}{counts['groups']:>8}"
            + "".join(f"{counts[split]:>12}" for split in SPLITS)
        )
    crossing = summary["groups_found_in_two_official_splits"]
    if crossing:
        lines.append(
            f"{len(crossing)} groups of near-duplicates were found in two of the source's splits "
            f"and kept on the training side: {', '.join(crossing)}"
        )
    if summary["groups_of_several_classes"]:
        lines.append(
            f"{summary['groups_of_several_classes']} groups hold near-duplicates of different "
            "classes; look at them in manifest.csv"
        )
    lines.append(f"data digest {summary['data_digest']}")
    return "\n".join(lines + ([SYNTHETIC] if summary["phantom"] else []))
