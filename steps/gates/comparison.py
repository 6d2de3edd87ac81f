"""Two models on one and the same test split: which scans, and how sure the difference is."""

from __future__ import annotations

import csv
import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from model.decision import healthy_index
from scans.errors import SourceError
from scans.manifest import read_manifest
from steps.metrics import balanced_accuracy

TEST = "test"


class MissingScansError(ValueError):
    """Scans that are needed are not on this machine; the message says which and what to do."""


@dataclass(frozen=True)
class Scan:
    """One distinct scan of a manifest."""

    sha256: str
    label: str
    group: str
    split: str


@dataclass(frozen=True)
class Difference:
    """Candidate minus incumbent, with the bootstrap's bound."""

    candidate: float
    incumbent: float
    lower_bound: float  # of the difference, one-sided at the asked confidence

    @property
    def value(self) -> float:
        """Return the observed difference."""
        return self.candidate - self.incumbent


def registered_scans(path: Path) -> list[Scan]:
    """Return the scans of a registered manifest, which has no file names, in its order.

    Raises:
        ValueError: it has other columns.
    """
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        needed, found = [field.name for field in fields(Scan)], reader.fieldnames or []
        if not set(needed) <= set(found):
            raise ValueError(
                f"expected its manifest to have the columns {', '.join(needed)}, received "
                f"{', '.join(found) or 'none'}; register the model again"
            )
        return [Scan(row["sha256"], row["label"], row["group"], row["split"]) for row in reader]


def scans_unseen_by(incumbent: Sequence[Scan], candidate: Sequence[Scan]) -> list[Scan]:
    """Return the candidate's test scans that the incumbent never learned from.

    Left out are the scans of the incumbent's training and validation splits, by SHA-256, and the
    near-duplicates of those, as far as the two manifests know: scans are joined by the groups of
    both, and whatever hangs together with one of those scans is left out with it. A
    near-duplicate that neither manifest's groups tie to them cannot be recognised.
    """
    neighbours: defaultdict[str, set[str]] = defaultdict(set)  # scan → its groups, and back
    for origin, scans in (("incumbent", incumbent), ("candidate", candidate)):
        for scan in scans:
            group = f"{origin} group {scan.group}"
            neighbours[scan.sha256].add(group)
            neighbours[group].add(scan.sha256)
    tied = {scan.sha256 for scan in incumbent if scan.split != TEST}
    to_visit = list(tied)
    while to_visit:
        fresh = neighbours[to_visit.pop()] - tied
        tied |= fresh
        to_visit.extend(fresh)
    return [scan for scan in candidate if scan.split == TEST and scan.sha256 not in tied]


def scan_files(scans: Sequence[Scan], data: Path) -> list[Path]:
    """Find the files of scans in an ingested folder, and check their contents.

    Args:
        scans: what is needed, from a version's own manifest.
        data: a data_ingestion folder on this machine, with its manifest.csv.

    Raises:
        MissingScansError: no manifest there, or scans that it does not have.
    """
    try:
        path_of = {row.sha256: data / row.path for row in read_manifest(data)}
    except SourceError as error:
        raise MissingScansError(
            f"the scans are needed on this machine: {error} Or name another folder with --data"
        ) from error
    files = [path_of.get(scan.sha256) for scan in scans]
    found = [
        file
        for scan, file in zip(scans, files, strict=True)
        if file and file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == scan.sha256
    ]
    if len(found) < len(scans):
        raise MissingScansError(
            f"{len(scans) - len(found)} of {len(scans)} scans that are needed are not in {data}: "
            "ingest the data that this version was made from, or name its folder with --data"
        )
    return found


def recalls(labels: Sequence[str], predicted: Sequence[str | None]) -> dict[str, float]:
    """Return the recall of each class that occurs in `labels`; a missing prediction is wrong."""
    pairs = list(zip(labels, predicted, strict=True))
    return {
        name: float(np.mean([answer == name for label, answer in pairs if label == name]))
        for name in sorted(set(labels))
    }


def answered_accuracy(labels: Sequence[str], predicted: Sequence[str | None]) -> float:
    """Return the balanced accuracy, 0-1; a missing prediction is wrong."""
    return balanced_accuracy(labels, [answer or "" for answer in predicted])


def sensitivity(labels: Sequence[str], predicted: Sequence[str | None]) -> float:
    """Return the share of diseased scans that are called diseased, 0-1.

    Diseased is every label but `normal`. Where there is no such class, or no other, the lowest
    recall of a class is returned.
    """
    names = sorted(set(labels))
    healthy = healthy_index(names)
    if healthy is None or len(names) == 1:
        return min(recalls(labels, predicted).values())
    called = [
        answer not in (None, names[healthy])
        for label, answer in zip(labels, predicted, strict=True)
        if label != names[healthy]
    ]
    return float(np.mean(called))


def paired_bootstrap(
    scans: Sequence[Scan],
    predictions: Mapping[str, Sequence[str | None]],
    *,
    confidence: float,
    replicates: int,
    seed: int,
) -> Difference:
    """Compare two models' balanced accuracy on the same scans.

    Groups of near-duplicates are drawn with replacement within each class, the same for both
    models (Efron & Tibshirani 1993, ch. 8: resample the unit that is independent). So the classes
    keep their weight and no replicate lacks one.

    Args:
        scans: the test scans.
        predictions: `candidate` and `incumbent`, each with a label per scan, None for no answer.
        confidence: of the one-sided lower bound, 0-1.
        replicates: number of bootstrap samples.
        seed: of the random draws.
    """
    labels = [scan.label for scan in scans]
    generator = np.random.default_rng(seed)
    difference = np.zeros(replicates)
    classes = sorted(set(labels))
    for name in classes:
        gains: defaultdict[str, list[int]] = defaultdict(list)
        for scan, new, old in zip(
            scans, predictions["candidate"], predictions["incumbent"], strict=True
        ):
            if scan.label == name:
                gains[scan.group].append(int(new == name) - int(old == name))
        gain = np.array([sum(group) for group in gains.values()])
        size = np.array([len(group) for group in gains.values()])
        drawn = generator.integers(len(gain), size=(replicates, len(gain)))
        difference += gain[drawn].sum(axis=1) / size[drawn].sum(axis=1) / len(classes)
    return Difference(
        candidate=answered_accuracy(labels, predictions["candidate"]),
        incumbent=answered_accuracy(labels, predictions["incumbent"]),
        lower_bound=float(np.quantile(difference, 1 - confidence)),
    )
