"""What prepare_base_model wrote, as the later stages see it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from model.network import Precision
from model.preprocessing import Preprocessing
from model.tensors import Tensor, read_tensors
from steps.errors import StageError

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

    @property
    def network(self) -> Path:
        """The exported network (`.xml`; the weights are beside it)."""
        return self.folder / self.file_name

    def tensors(self) -> list[Tensor]:
        """Read the base's 26 tensors in full precision (see model/tensors.py)."""
        return read_tensors(self.folder / TENSORS)


def read_base(folder: Path) -> Base:
    """Read the description of a prepared base.

    Raises:
        StageError: it is missing.
    """
    path = folder / "base.json"
    if not path.is_file():
        raise StageError(f"{path} is missing. Run prepare_base_model first: dvc repro")
    made = json.loads(path.read_text(encoding="utf-8"))
    return Base(
        folder=folder,
        classes=tuple(made["classes"]),
        precision=made["precision"],
        preprocessing=Preprocessing(**made["preprocessing"]),
        calibration_images=made["calibration_images"],
        weights_sha256=made["weights_sha256"],
    )
