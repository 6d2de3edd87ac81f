"""A tiny pyfunc with the rows of the real one and negligible cost, for tests of its callers.

The label follows the mean brightness, so equal bytes always get equal rows. What Pillow cannot
read gets the `error` column. A series is as sick as its darkest slice. Pictures have no positions,
so nothing is thinned.
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
OF_SERIES = ("series", "series_label", "series_probability", "series_undecided", "key_slice",
             "position_mm", "skipped")
SERIES_COLUMNS = ("series", "label", "probability", *(f"p_{name}" for name in CLASSES),
                  "undecided", "error", "slices", "scored", "skipped", "failed",
                  "out_of_domain_share", "key_slice", "key_position_mm", "first_mm", "last_mm",
                  "gaps", "duplicate_positions", "note")


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


def series_answer(name, rows):
    answer = dict.fromkeys(SERIES_COLUMNS)
    failed = rows["error"].notna()
    answer |= {"series": name, "slices": len(rows), "scored": int((~failed).sum()), "skipped": 0,
               "failed": int(failed.sum()), "gaps": 0, "duplicate_positions": 0}
    if failed.all():
        return answer | {"error": f"None of the {len(rows)} slices could be scored."}
    sick = rows["p_adenocarcinoma"].astype(float)
    p = float(sick.max())
    answer |= {"label": CLASSES[p < 0.5], "probability": p, "p_adenocarcinoma": p,
               "p_normal": 1 - p, "undecided": 0.4 < p < 0.6, "out_of_domain_share": 0.0}
    return answer | {"key_slice": int(rows["place"][sick.idxmax()])}


class StandIn(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        rows = [score(image) for image in model_input["image"]]
        if "series" not in model_input.columns and not (params or {}).get("series"):
            return pd.DataFrame(rows, columns=list(COLUMNS), dtype=object)
        names = model_input["series"] if "series" in model_input.columns else [None] * len(rows)
        rows = [
            row | dict.fromkeys(OF_SERIES)
            | {"series": name if isinstance(name, str) and name else None, "skipped": False}
            for row, name in zip(rows, names)
        ]
        table = self.series_rows(pd.DataFrame(rows, columns=[*COLUMNS, *OF_SERIES], dtype=object))
        answers = {answer["series"]: answer for answer in table.to_dict("records")}
        for number, row in enumerate(rows):
            if row["series"] is not None:
                answer = answers[row["series"]]
                row |= {f"series_{k}": answer[k] for k in ("label", "probability", "undecided")}
                row["key_slice"] = answer["key_slice"] == number
        return pd.DataFrame(rows, columns=[*COLUMNS, *OF_SERIES], dtype=object)

    def series_rows(self, rows):
        placed = rows.assign(place=range(len(rows)))
        names = [name for name in dict.fromkeys(rows["series"]) if not pd.isna(name)]
        answers = [series_answer(name, placed[placed["series"] == name]) for name in names]
        return pd.DataFrame(answers, columns=list(SERIES_COLUMNS), dtype=object)


mlflow.models.set_model(StandIn())
"""


def signature() -> Any:
    """Return the signature of the real pyfunc: `image`, bytes or base64 text, and `series`."""
    from mlflow.models import ModelSignature
    from mlflow.types.schema import ColSpec, ParamSchema, ParamSpec, Schema

    inputs = [ColSpec("string", "image"), ColSpec("string", "series", required=False)]
    params = [ParamSpec("series", "boolean", False)]
    return ModelSignature(Schema(inputs), params=ParamSchema(params))


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
