"""The counts and facts of a data set, as data and as lines for a reader."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from scans.manifest import ManifestRow
from scans.prepared import Dataset, data_digest
from scans.sources import Kind, redacted
from scans.splits import SPLITS

SYNTHETIC = (
    "SYNTHETIC: these are computer-drawn phantoms, not scans of people; "
    "what is measured on them says nothing about patients."
)


def summarise(
    dataset: Dataset, source: str, kinds: Sequence[Kind], group_distance_bits: int
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
        "source_kind": ", ".join(kinds),
        "phantom": "phantom" in kinds,
        "files": dataset.files,
        "distinct": len(rows),
        "copies": sum(row.copies - 1 for row in rows),
        "rejected": len(dataset.rejected),
        "rejected_by_kind": dict(Counter(r.kind for r in dataset.rejected).most_common()),
        "passed_over": dataset.passed_over,
        "groups": len({row.group for row in rows}),
        "groups_of_several_classes": len(_groups_of_several_classes(rows)),
        "patients_of_several_classes": len(_patients_of_several_classes(rows)),
        "classes": per_class,
        "splits": {split: sum(row.split == split for row in rows) for split in SPLITS},
        "formats": dict(sorted(Counter(f"{row.format} {row.mode}" for row in rows).items())),
        "official_splits": dataset.official_splits,
        "groups_found_in_two_official_splits": dataset.crossing_groups,
        "group_distance_bits": group_distance_bits,
        "sources": _sources(rows),
        "images_in_several_sources": dataset.sharing.images,
        "groups_of_several_sources": len(dataset.sharing.groups),
        "patients": len({row.patient for row in rows if row.patient}),
        "distinct_with_known_patient": sum(row.patient is not None for row in rows),
        "series": _series(dataset),
        "warnings": dataset.warnings,
        "data_digest": data_digest(rows),
    }


def _groups_of_several_classes(rows: Sequence[ManifestRow]) -> set[str]:
    """Return groups with several classes, but for those of one patient, whose slices may differ."""
    labels, patients = defaultdict(set), defaultdict(set)
    for row in rows:
        labels[row.group].add(row.label)
        patients[row.group].add(row.patient)
    return {
        group
        for group, found in labels.items()
        if len(found) > 1 and (None in patients[group] or len(patients[group]) > 1)
    }


def _patients_of_several_classes(rows: Sequence[ManifestRow]) -> set[str]:
    labels = defaultdict(set)
    for row in rows:
        if row.patient:
            labels[row.patient].add(row.label)
    return {patient for patient, found in labels.items() if len(found) > 1}


def _sources(rows: Sequence[ManifestRow]) -> dict[str, dict[str, int]]:
    """Return the distinct images of each class in each named source."""
    names = sorted({row.source for row in rows if row.source})
    return {
        name: dict(sorted(Counter(row.label for row in rows if row.source == name).items()))
        for name in names
    }


def _series(dataset: Dataset) -> dict[str, int]:
    """Return how many series there are, and how many have faults in their positions."""
    series = dataset.series
    return {
        "series": len(series),
        "slices": sum(facts.slices for facts in series),
        "slices_without_position": sum(facts.slices - facts.with_position for facts in series),
        "series_with_missing_slices": sum(facts.missing > 0 for facts in series),
        "missing_slices": sum(facts.missing for facts in series),
        "series_with_duplicate_positions": sum(facts.duplicates > 0 for facts in series),
        "duplicate_positions": sum(facts.duplicates for facts in series),
        "series_with_uneven_positions": sum(facts.uneven for facts in series),
    }


def report(summary: dict[str, Any]) -> str:
    """Return the counts as lines of text for a reader."""
    patients = summary["distinct_with_known_patient"] > 0
    lines = [
        f"{summary['files']} files, {summary['distinct']} distinct, {summary['copies']} exact "
        f"copies, {summary['rejected']} rejected, {summary['groups']} "
        + ("groups of patients and near-duplicates" if patients else "near-duplicate groups"),
        f"{'class':<32}{'files':>8}{'distinct':>10}{'groups':>8}"
        + "".join(f"{split:>12}" for split in SPLITS),
    ]
    for label, counts in summary["classes"].items():
        lines.append(
            f"{label:<32}{counts['files']:>8}{counts['distinct']:>10}{counts['groups']:>8}"
            + "".join(f"{counts[split]:>12}" for split in SPLITS)
        )
    lines += _more(summary)
    crossing = summary["groups_found_in_two_official_splits"]
    if crossing:
        lines.append(
            f"{len(crossing)} groups were found in two of the source's splits and kept on "
            f"the training side: {', '.join(crossing)}"
        )
    if summary["groups_of_several_classes"]:
        lines.append(
            f"{summary['groups_of_several_classes']} groups hold scans of different classes; look "
            "at them in manifest.csv"
        )
    lines += [f"Warning: {warning}" for warning in summary["warnings"]]
    lines.append(f"data digest {summary['data_digest']}")
    return "\n".join(lines + ([SYNTHETIC] if summary["phantom"] else []))


def _more(summary: dict[str, Any]) -> list[str]:
    """Return lines on sources, patients, series and rejected files, where there are any."""
    lines = []
    for name, labels in summary["sources"].items():
        counts = ", ".join(f"{label} {count}" for label, count in labels.items())
        lines.append(f"source {name}: {counts}")
    known, series = summary["distinct_with_known_patient"], summary["series"]
    lines.append(
        f"{known} of {summary['distinct']} distinct scans have a known patient; "
        f"{summary['patients']} patients, {series['series']} series"
    )
    if summary["patients_of_several_classes"]:
        lines.append(
            f"{summary['patients_of_several_classes']} patients have slices of different classes"
        )
    faults = [
        f"{series[count]} {what}"
        for count, what in (
            ("slices_without_position", "slices without a position"),
            ("missing_slices", f"slices missing in {series['series_with_missing_slices']} series"),
            (
                "duplicate_positions",
                f"slices at another's place in {series['series_with_duplicate_positions']} series",
            ),
            ("series_with_uneven_positions", "series with uneven positions"),
        )
        if series[count]
    ]
    if faults:
        lines.append(f"positions: {', '.join(faults)}; see series.csv")
    if summary["passed_over"]:
        lines.append(f"{summary['passed_over']} hidden and system files passed over")
    if summary["rejected_by_kind"]:
        lines.append("rejected files by reason; see rejected.csv")
        lines += [f"{count:>8}  {kind}" for kind, count in summary["rejected_by_kind"].items()]
    return lines
