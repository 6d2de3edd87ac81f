"""What prepare_base_model wrote, as the later stages see it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.network import Precision
from model.preprocessing import Preprocessing, scan_pixels
from model.tensors import Tensor, read_tensors
from scans.manifest import read_manifest
from steps.errors import StageError, read_of

STAGE = "prepare_base_model"
TENSORS = "base.npz"


@dataclasses.dataclass(frozen=True)
class Base:
    """The prepared base: where it is and how pixels must reach it."""

    folder: Path
    classes: tuple[str, ...]
    precision: Precision
    preprocessing: Preprocessing
    calibration_images: int
    weights_sha256: str
    file_name: str = "base.xml"
    feature_blocks: int = 1  # last blocks of VGG16 whose maps the network gives

    @property
    def network(self) -> Path:
        """The exported network (`.xml`; the weights are beside it)."""
        return self.folder / self.file_name

    def tensors(self) -> list[Tensor]:
        """Read the base's 26 tensors in full precision (see model/tensors.py).

        Raises:
            StageError: they are missing, or of another layout.
        """
        path = self.folder / TENSORS
        with read_of(path, STAGE):
            return read_tensors(path)


def read_base(folder: Path) -> Base:
    """Read the description of a prepared base.

    Raises:
        StageError: it is missing, or was written by another version of the code.
    """
    path = folder / "base.json"
    if not path.is_file():
        raise StageError(f"{path} is missing. Run prepare_base_model first: dvc repro")
    with read_of(path, STAGE):
        made = json.loads(path.read_text(encoding="utf-8"))
        base = Base(
            folder=folder,
            classes=tuple(made["classes"]),
            precision=made["precision"],
            preprocessing=Preprocessing(**made["preprocessing"]),
            calibration_images=made["calibration_images"],
            weights_sha256=made["weights_sha256"],
            feature_blocks=made["feature_blocks"],
        )
    for network in (base.network, base.network.with_suffix(".bin")):
        if not network.is_file():
            raise StageError(f"{network} is missing. Run {STAGE} again: dvc repro {STAGE}")
    return base


def quantisation_scans(
    data: Path, count: int, preprocessing: Preprocessing, seed: int
) -> list[NDArray[np.uint8]]:
    """Decode training scans to calibrate with, drawn at random, at most `count`.

    Returns:
        RGB pixels as the network takes them, one array per scan.

    Raises:
        StageError: there is no training scan.
    """
    training = [row for row in read_manifest(data) if row.split == "train"]
    if not training:
        raise StageError(f"{data} has no training scans. Run data_ingestion again.")
    chosen = np.random.default_rng(seed).permutation(len(training))[:count]
    return [scan_pixels((data / training[i].path).read_bytes(), preprocessing) for i in chosen]
