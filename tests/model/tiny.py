"""A whole tiny pipeline for tests: phantoms, a random 32 x 32 VGG16, a real pyfunc."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from model.preprocessing import Preprocessing
from scans.limits import Limits
from scans.splits import Fractions
from steps.data_ingestion import ingest
from steps.prepare_base_model import prepare_base_model
from steps.training.__main__ import Trained, training
from steps.training.augmentation import Augmentation
from steps.training.fine_tuning import FineTuning
from steps.training.head import HeadSettings

HEAD = HeadSettings(
    epochs=5,
    batch_size=64,
    steps_per_epoch=0,
    learning_rate=0.05,
    l2=0.1,
    dropout=0.0,
    balanced_classes=True,
    patience=5,
)
AUGMENTATION = Augmentation(
    views=1, flip=True, rotation_deg=5, shift=0.02, zoom=0.05, brightness=0.05,
    histogram_match=1.0, contrast=0.05,
)  # fmt: skip
NO_FINE_TUNING = FineTuning(blocks=0, epochs=1, learning_rate=1e-5, batch_size=16)


@dataclasses.dataclass(frozen=True)
class Tiny:
    """Folders of a pipeline that ran up to training."""

    data: Path
    prepared: Path
    trained: Path

    @property
    def model(self) -> Path:
        """The pyfunc's folder."""
        return self.trained / "model"


def tiny_in(folder: Path) -> Tiny:
    """Return the folders of a pipeline below `folder`."""
    return Tiny(folder / "data", folder / "prepared", folder / "trained")


def ingest_scans(source: str, output: Path, images: int = 40, seed: int = 0) -> Path:
    """Ingest scans as the first stage does; returns the folder."""
    ingest(
        source,
        output,
        sha256="",
        class_patterns="",
        fractions=Fractions(0.6, 0.2, 0.2),
        seed=seed,
        group_distance_bits=10,
        resplit=False,
        limits=Limits(),
        phantom_images=images,
    )
    return output


def ingest_phantoms(output: Path, images: int = 40, seed: int = 0) -> Path:
    """Ingest phantoms as the first stage does; returns the folder."""
    return ingest_scans("phantom", output, images, seed)


def run_tiny_pipeline(
    folder: Path, precision: str = "int8", seed: int = 0, source: str = "phantom"
) -> Tiny:
    """Run the first three stages with small settings."""
    tiny = tiny_in(folder)
    ingest_scans(source, tiny.data, seed=seed)
    prepare_base_model(
        tiny.data,
        tiny.prepared,
        weights="random",
        precision=precision,  # type: ignore[arg-type]
        preprocessing=Preprocessing(image_size_px=32),
        calibration_images=8,
        seed=seed,
    )
    train_tiny(tiny, tiny.trained, seed=seed)
    return tiny


def train_tiny(
    tiny: Tiny, output: Path, seed: int = 0, fine_tuning: FineTuning = NO_FINE_TUNING
) -> Trained:
    """Run the third stage with small settings."""
    return training(
        tiny.data,
        tiny.prepared,
        output,
        head_settings=HEAD,
        augmentation=AUGMENTATION,
        fine_tuning=fine_tuning,
        sensitivity=0.95,
        flagged_share=0.02,
        seed=seed,
    )
