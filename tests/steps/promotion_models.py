"""Small scans whose class shows in their texture only, and pyfuncs that are more or less good.

Both classes have the same grey levels, so that neither the majority nor brightness finds them. The
rows, the metadata, the input example and the `model` package inside are like the real pyfunc's.
"""

from __future__ import annotations

import base64
import hashlib
import io
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from scans.manifest import ManifestRow, write_manifest

CLASSES = ("adenocarcinoma", "normal")
SIDE_PX = 32
# What an external evaluation leaves with a version: key and value of a tag.
EXTERNAL_TAG = (
    "external.elsewhere",
    '{"scans": 306, "groups": 110, "roc_auc": 0.93, "roc_auc_ci95": [0.9, 0.96]}',
)

CODE = """
import base64
import hashlib
import io

import mlflow
import numpy as np
import pandas as pd
from PIL import Image

from model import WRONG

CLASSES = ("adenocarcinoma", "normal")
COLUMNS = ("label", "probability", *(f"p_{name}" for name in CLASSES), "error")


def score(image):
    row = dict.fromkeys(COLUMNS)
    try:
        data = image if isinstance(image, bytes) else base64.b64decode(image)
        pixels = np.asarray(Image.open(io.BytesIO(data)).convert("L"), dtype=float)
    except Exception as error:
        return row | {"error": f"expected an image, received {type(error).__name__}"}
    upright = np.abs(np.diff(pixels, axis=1)).mean() > np.abs(np.diff(pixels, axis=0)).mean()
    wrong = hashlib.sha256(data).digest()[0] < WRONG * 256
    label = CLASSES[int(bool(upright) == wrong)]
    p = {name: 0.9 if name == label else 0.1 for name in CLASSES}
    return row | {"label": label, "probability": 0.9} | {f"p_{k}": v for k, v in p.items()}


class Textures(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        rows = [score(image) for image in model_input["image"]]
        return pd.DataFrame(rows, columns=list(COLUMNS), dtype=object)


mlflow.models.set_model(Textures())
"""
SAVE = """
import sys

import mlflow
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.types.schema import ColSpec, Schema

mlflow.pyfunc.save_model(
    "saved",
    python_model="textures.py",
    code_paths=["model"],
    signature=ModelSignature(Schema([ColSpec("string", "image")])),
    input_example=pd.DataFrame({"image": [sys.argv[1]]}),
    metadata={
        "classes": ["adenocarcinoma", "normal"], "phantom": False, "data_digest": "d1",
        "model_digest": "0" * 64,
    },
    pip_requirements=["mlflow", "pandas", "pillow"],
)
"""


def scan_bytes(label: str, seed: int) -> bytes:
    """Return a PNG: upright stripes of noise for adenocarcinoma, level ones for normal."""
    line = np.random.default_rng(seed).integers(0, 256, SIDE_PX, dtype=np.uint8)
    pixels = np.tile(line, (SIDE_PX, 1))
    file = io.BytesIO()
    Image.fromarray(pixels if label == CLASSES[0] else pixels.T.copy()).save(file, "PNG")
    return file.getvalue()


def write_scans(folder: Path, *, train: int = 40, test: int = 40, first_seed: int = 0) -> Path:
    """Write an ingested folder: pairs of near-duplicates in a group, both classes equally often."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(train + test):
        label = CLASSES[number // 2 % 2]
        data = scan_bytes(label, first_seed + number)
        path, split = f"{first_seed + number}.png", "train" if number < train else "test"
        (folder / path).write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        rows.append(
            ManifestRow(
                path, label, digest, 1, str(number // 2), split, SIDE_PX, SIDE_PX, "L", "PNG"
            )
        )
    write_manifest(rows, folder)
    return folder


def save_textures(folder: Path) -> Path:
    """Save a pyfunc that is always right, in a process of its own, and return its folder."""
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "__init__.py").write_text("WRONG = 0.0\n")
    (folder / "textures.py").write_text(CODE)
    (folder / "save.py").write_text(SAVE)
    example = base64.b64encode(scan_bytes(CLASSES[0], 999)).decode()
    subprocess.run(
        [sys.executable, "save.py", example], cwd=folder, check=True, capture_output=True
    )
    return folder / "saved"


def variant(saved: Path, folder: Path, *, wrong: float = 0.0, **changes: Any) -> Path:
    """Copy a saved model so that it answers a share `wrong` of the scans wrongly.

    Args:
        saved: what `save_textures` saved.
        folder: of the copy.
        wrong: written into the `model` package that the copy carries.
        changes: entries of MLmodel to replace; those of `metadata` by their own names.
    """
    shutil.copytree(saved, folder)
    (folder / "code" / "model" / "__init__.py").write_text(f"WRONG = {wrong}\n")
    entries = yaml.safe_load((folder / "MLmodel").read_text())
    made_from = f"{wrong} {changes.get('data_digest')}"
    same = made_from == "0.0 None"
    digest = "0" * 64 if same else hashlib.sha256(made_from.encode()).hexdigest()
    entries["metadata"]["model_digest"] = digest
    for key, value in changes.items():
        (entries["metadata"] if key in entries["metadata"] else entries)[key] = value
    (folder / "MLmodel").write_text(yaml.safe_dump(entries))
    return folder
