"""The prepared base: made without a training framework."""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from model.preprocessing import Preprocessing
from model.runtime import Runtime
from model.tensors import tensors_sha256
from steps import prepare_base_model as stage
from steps.base import read_base
from steps.errors import StageError
from tests.model.tiny import Tiny

ROOT = Path(__file__).parents[2]

# The stage's function, where there is no training framework.
PREPARE = """
import sys
for name in ("tensorflow", "keras", "torch"):
    sys.modules[name] = None
from pathlib import Path
from model.preprocessing import Preprocessing
from steps.prepare_base_model import prepare_base_model
prepare_base_model(
    Path(sys.argv[1]), Path(sys.argv[2]), weights="random", precision="int8",
    preprocessing=Preprocessing(image_size_px=32), calibration_images=8, seed=0,
)
"""


def test_no_training_framework_is_needed(tiny_pipeline: Tiny, tmp_path: Path) -> None:
    output = tmp_path / "prepared"
    done = subprocess.run(
        [sys.executable, "-c", PREPARE, str(tiny_pipeline.data), str(output)],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    written = sorted(path.name for path in output.iterdir())
    assert written == ["base.bin", "base.json", "base.npz", "base.xml"]
    base = read_base(output)
    # One seed draws one base: the tiny pipeline has the same.
    assert base.weights_sha256 == read_base(tiny_pipeline.prepared).weights_sha256
    assert base.weights_sha256 == tensors_sha256(base.tensors())
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    assert Runtime(base.network, base.precision)(pixels).shape == (2, 1, 1, 512)


def test_every_parameter_of_the_pixels_reaches_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    received: dict[str, Any] = {}

    def prepare(*_: object, **settings: Any) -> None:
        received.update(settings)
        raise StageError("far enough")

    monkeypatch.setattr(stage, "prepare_base_model", prepare)
    monkeypatch.setattr(stage, "source_of", lambda _: "phantom")
    monkeypatch.setattr(stage, "stage_run", lambda *_: contextlib.nullcontext())
    given = Preprocessing(
        image_size_px=96, crop_fraction=0.2, contrast_cutoff_percent=3, crop="fixed",
        contrast_kind="stretched", crop_aspect="kept",
    )  # fmt: skip
    options = [
        text
        for name, value in dataclasses.asdict(given).items()
        for text in (f"--{name}", str(value))
    ]
    done = CliRunner().invoke(stage.main, ["--data", str(tmp_path), *options])
    assert done.exit_code == 1 and "far enough" in done.output
    assert received["preprocessing"] == given
