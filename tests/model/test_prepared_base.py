"""The prepared base: made without a training framework."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from model.runtime import Runtime
from model.tensors import tensors_sha256
from steps.base import read_base
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
