"""A pyfunc that does on request what a real one does rarely: wait, fail, explain, doubt.

What it does is written in the scan: text such as `raise` or `sleep 2`, or `until FILE` (see
`Gate`). A picture is scored by its mean brightness, so equal bytes always get equal rows.
"""

from __future__ import annotations

import warnings
from pathlib import Path

CLASSES = ("adenocarcinoma", "large.cell.carcinoma", "normal", "squamous.cell.carcinoma")
METADATA = {
    "classes": list(CLASSES),
    "image_size_px": 224,
    "precision": "int8",
    "data_digest": "5f0c6a3b7f2e4d1c",
    "phantom": True,
    "threshold": 0.7,
    "network_sha256": "9b1e77d0c4aa",
}

CODE = """
import base64
import io
import pathlib
import tempfile
import time

import mlflow
import numpy as np
import pandas as pd
from PIL import Image

CLASSES = ("adenocarcinoma", "large.cell.carcinoma", "normal", "squamous.cell.carcinoma")
COLUMNS = ["label", "probability", *(f"p_{name}" for name in CLASSES), "error", "out_of_domain",
           "undecided", "error_code"]


BELOW = (0.676, 0.0, 0.324, 0.0)  # a threshold of 0.7 calls it normal


def heatmap(grey):
    alpha = (255 * (grey > np.quantile(grey, 0.9))).astype(np.uint8)
    red = np.dstack([np.full_like(alpha, 255), alpha * 0, alpha * 0, alpha])
    file = io.BytesIO()
    Image.fromarray(red, "RGBA").save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def wait_until_open(gate):
    tempfile.mkstemp(prefix=f"{gate.name}-begun-", dir=gate.parent)
    deadline = time.monotonic() + 120
    while not gate.exists() and time.monotonic() < deadline:
        time.sleep(0.02)


def score(image, explain):
    row = dict.fromkeys(COLUMNS)
    data = image if isinstance(image, bytes) else base64.b64decode(image)
    if data.startswith(b"sleep "):
        time.sleep(float(data.split()[1]))
        grey = np.zeros((8, 8))
    elif data.startswith(b"until "):
        wait_until_open(pathlib.Path(data.removeprefix(b"until ").decode()))
        grey = np.zeros((8, 8))
    elif data.startswith(b"raise"):
        raise RuntimeError(f"cannot open /srv/secret/patient.dcm holding {data!r}")
    elif data.startswith((b"below", b"undecided")):
        p = dict(zip(CLASSES, (0.35, 0.15, 0.4, 0.1) if data == b"undecided" else BELOW))
        row |= {"label": "normal", "probability": p["normal"], "out_of_domain": False}
        row |= {"undecided": data == b"undecided"} | {f"p_{n}": v for n, v in p.items()}
        return row
    elif data.startswith(b"refuse"):
        raise ValueError("Expected a threshold from 0 to 1; received 7.")
    else:
        try:
            grey = np.asarray(Image.open(io.BytesIO(data)).convert("L"))
        except Exception:
            error = "Expected an image file; these bytes are not one."
            return row | {"error": error, "error_code": "unknown_format"}
    mean = float(grey.mean()) / 255
    weights = np.array([1.0, 0.2, 2.0 * mean, 0.1])
    p = dict(zip(CLASSES, (weights / weights.sum()).tolist()))
    label = max(p, key=p.get)
    row |= {"label": label, "probability": p[label], "out_of_domain": mean > 0.9}
    row["undecided"] = False
    row |= {f"p_{name}": value for name, value in p.items()}
    return row | ({"heatmap": heatmap(grey)} if explain else {})


class Trial(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        explain = bool((params or {}).get("explain"))
        rows = [score(image, explain) for image in model_input["image"]]
        columns = COLUMNS + ["heatmap"] * explain
        return pd.DataFrame(rows, columns=columns, dtype=object).astype(object)


mlflow.models.set_model(Trial())
"""


def save_trial_model(folder: Path) -> Path:
    """Save the model in `folder`/model and return that path."""
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types.schema import ColSpec, ParamSchema, ParamSpec, Schema

    code = folder / "trial.py"
    code.write_text(CODE)
    parameters = [ParamSpec("explain", "boolean", False), ParamSpec("threshold", "double", 0.5)]
    path = folder / "model"
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")  # MLflow recommends type hints; they end here
        mlflow.pyfunc.save_model(
            str(path),
            python_model=str(code),
            signature=ModelSignature(
                Schema([ColSpec("string", "image")]), None, ParamSchema(parameters)
            ),
            pip_requirements=["mlflow", "pandas", "pillow"],
            metadata=METADATA,
        )
    return path
