"""A tiny pyfunc with the rows of the real one and negligible cost, for tests of its callers.

The label follows the mean brightness, so equal bytes always get equal rows. What Pillow cannot
read gets the `error` column.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

CLASSES = ("adenocarcinoma", "normal")

CODE = """
import base64
import io

import mlflow
import pandas as pd
from PIL import Image, ImageStat

CLASSES = ("adenocarcinoma", "normal")
COLUMNS = ("label", "probability", *(f"p_{name}" for name in CLASSES), "error")


def score(image):
    row = dict.fromkeys(COLUMNS)
    try:
        data = image if isinstance(image, bytes) else base64.b64decode(image)
        mean = ImageStat.Stat(Image.open(io.BytesIO(data)).convert("L")).mean[0] / 255
    except Exception as error:
        return row | {"error": f"expected an image, received {type(error).__name__}"}
    p = {"adenocarcinoma": 1 - mean, "normal": mean}
    label = max(p, key=p.get)
    return row | {"label": label, "probability": p[label]} | {f"p_{k}": v for k, v in p.items()}


class StandIn(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        rows = [score(image) for image in model_input["image"]]
        return pd.DataFrame(rows, columns=list(COLUMNS), dtype=object)


mlflow.models.set_model(StandIn())
"""


def signature() -> Any:
    """Return the signature of the real pyfunc: one `image` column, bytes or base64 text."""
    from mlflow.models import ModelSignature
    from mlflow.types.schema import ColSpec, Schema

    return ModelSignature(Schema([ColSpec("string", "image")]))


def save_stand_in_model(folder: Path) -> Path:
    """Save the stand-in as an MLflow model in `folder`/model and return that path."""
    import mlflow

    code = folder / "stand_in.py"
    code.write_text(CODE)
    path = folder / "model"
    mlflow.pyfunc.save_model(
        str(path),
        python_model=str(code),
        signature=signature(),
        pip_requirements=["mlflow", "pandas", "pillow"],
    )
    return path
