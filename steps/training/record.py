"""What the training records about a model for the evaluation, in training.json beside it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from steps.errors import read_of
from steps.training.augmentation import Augmentation
from steps.training.head import HeadSettings

RECORD = "training.json"


@dataclasses.dataclass(frozen=True)
class OutOfDomainRecord:
    """How unlike the training scans a picture may be."""

    threshold: float  # on the distance to the training scans
    references: int  # training scans that distances are measured to
    allowed_share_of_chest_ct: float  # that may be flagged, 0-1


@dataclasses.dataclass(frozen=True)
class TrainingRecord:
    """How a model was trained: enough to train it again under another protocol."""

    head: HeadSettings
    augmentation: Augmentation
    seed: int
    fine_tuned_blocks: int
    sensitivity: float  # that the threshold was chosen for, 0-1
    calibration: dict[str, Any]  # report of steps.training.calibration, as scores.json shows it
    out_of_domain: OutOfDomainRecord
    series: dict[str, Any]  # report of steps.training.series, and what labels speak of

    def write(self, folder: Path) -> None:
        """Write the record into the folder of the training stage."""
        text = json.dumps(dataclasses.asdict(self), indent=2) + "\n"
        (folder / RECORD).write_text(text, encoding="utf-8")


def read_record(folder: Path) -> TrainingRecord:
    """Read what `TrainingRecord.write` wrote.

    Raises:
        StageError: it is missing, or was written by another version of the code.
    """
    path = folder / RECORD
    with read_of(path, "training"):
        written = json.loads(path.read_text(encoding="utf-8"))
        return TrainingRecord(
            **written
            | {
                "head": HeadSettings(**written["head"]),
                "augmentation": Augmentation(**written["augmentation"]),
                "out_of_domain": OutOfDomainRecord(**written["out_of_domain"]),
            }
        )
