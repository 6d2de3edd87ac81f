"""A tiny pyfunc that answers series as the real one does, at negligible cost.

Its slices are PNG files that say in text chunks of which series they are and where. The grey level
is the probability of `normal`.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

CODE = """
import base64
import io
import os

import mlflow
import pandas as pd
from PIL import Image, ImageStat

CLASSES = ("adenocarcinoma", "normal")
SLICE = ("label", "probability", *(f"p_{name}" for name in CLASSES), "error", "out_of_domain",
         "undecided")
OF_SERIES = ("series", "series_label", "series_probability", "series_undecided", "key_slice",
             "position_mm", "skipped")
SPACING_MM = 2.5


def cell(position):
    return position if position is None else position // SPACING_MM


class WithSeries(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        asked = "series" in model_input or (params or {}).get("series", False)
        rows, cells = [], {}
        given = model_input["series"] if "series" in model_input else [None] * len(model_input)
        for number, (image, name) in enumerate(zip(model_input["image"], given)):
            row = dict.fromkeys(SLICE + OF_SERIES) | {"skipped": False}
            rows.append(row)
            try:
                data = image if isinstance(image, bytes) else base64.b64decode(image)
                picture = Image.open(io.BytesIO(data))
                mean = ImageStat.Stat(picture.convert("L")).mean[0] / 255
            except Exception as error:
                row |= {"error": f"expected an image, received {type(error).__name__}"}
                row["series"] = name
                continue
            row["series"] = name or picture.text.get("series")
            if "position" in picture.text:
                row["position_mm"] = float(picture.text["position"])
            place = (row["series"], cell(row["position_mm"]))
            if asked and None not in place:
                if place in cells:
                    row["skipped"] = True
                    continue
                cells[place] = number
            label = "normal" if mean >= 0.5 else "adenocarcinoma"
            p = {"adenocarcinoma": 1 - mean, "normal": mean}
            row |= {"label": label, "probability": p[label], "out_of_domain": mean > 0.95,
                    "undecided": 0.45 < mean < 0.55}
            row |= {f"p_{k}": v for k, v in p.items()}
        columns = [*SLICE, *OF_SERIES] if asked else list(SLICE)
        return pd.DataFrame(rows, columns=columns, dtype=object)

    def series_plan(self, images, series=None):
        found = []
        for image in images:
            try:
                text = Image.open(io.BytesIO(image)).text
            except Exception:
                text = {}
            position = text.get("position")
            at = None if position is None else float(position)
            found.append((text.get("series"), at, False, text.get("study")))
        columns = ["series", "position_mm", "skipped", "study"]
        return pd.DataFrame(found, columns=columns, dtype=object)

    def series_rows(self, rows):
        if (rows["label"] == "kills").any():
            os.kill(os.getpid(), 9)
        answers = [self.answer(name, rows) for name in dict.fromkeys(rows["series"])]
        return pd.DataFrame(answers, dtype=object)

    def answer(self, name, rows):
        if name.startswith("raises"):
            raise RuntimeError("no answer")
        own = [(n, row) for n, row in enumerate(rows.to_dict("records")) if row["series"] == name]
        good = [(n, row) for n, row in own if row["error"] is None]
        counted, cells = [], set()
        for n, row in sorted(good, key=lambda item: (item[1]["position_mm"] or 0)):
            at = cell(row["position_mm"])
            if at is None or at not in cells:
                counted.append((n, row))
                cells.add(at)
        answer = {"series": name, "slices": len(own), "scored": len(counted),
                  "skipped": len(good) - len(counted), "failed": len(own) - len(good),
                  "gaps": 0, "duplicate_positions": 0, "error": None}
        if not counted:
            return answer | {"error": "Expected a scored slice, received none."}
        key, row = max(counted, key=lambda item: item[1]["p_adenocarcinoma"])
        p = {"adenocarcinoma": row["p_adenocarcinoma"], "normal": row["p_normal"]}
        places = [r["position_mm"] for _, r in own if r["position_mm"] is not None]
        return answer | {
            "label": max(p, key=p.get), "probability": p["adenocarcinoma"], "key_slice": key,
            "undecided": 0.45 < p["normal"] < 0.55, "key_position_mm": row["position_mm"],
            "first_mm": min(places, default=None), "last_mm": max(places, default=None),
            "out_of_domain_share": sum(bool(r["out_of_domain"]) for _, r in counted) / len(counted),
        } | {f"p_{k}": v for k, v in p.items()}


mlflow.models.set_model(WithSeries())
"""


def signature() -> Any:
    """Return the signature of a pyfunc that answers series."""
    from mlflow.models import ModelSignature
    from mlflow.types.schema import ColSpec, ParamSchema, ParamSpec, Schema

    columns = [ColSpec("string", "image"), ColSpec("string", "series", required=False)]
    return ModelSignature(
        Schema(columns), params=ParamSchema([ParamSpec("series", "boolean", default=False)])
    )


def save_series_model(folder: Path, note: str = "") -> Path:
    """Save the stand-in as an MLflow model in `folder`/series-model and return that path.

    Args:
        note: a comment in its code; another note makes another model.
    """
    import mlflow

    code = folder / "stand_in_series.py"
    code.write_text(f"# {note}\n{CODE}")
    path = folder / "series-model"
    mlflow.pyfunc.save_model(
        str(path),
        python_model=str(code),
        signature=signature(),
        pip_requirements=["mlflow", "pandas", "pillow"],
    )
    return path


def slice_png(
    series: str | None, position_mm: float | None, grey: int, study: str | None = None
) -> bytes:
    """Return a slice that says of which series and study it is and where."""
    said = PngInfo()
    if series is not None:
        said.add_text("series", series)
    if study is not None:
        said.add_text("study", study)
    if position_mm is not None:
        said.add_text("position", str(position_mm))
    buffer = io.BytesIO()
    Image.new("L", (16, 16), grey).save(buffer, "PNG", pnginfo=said)
    return buffer.getvalue()
