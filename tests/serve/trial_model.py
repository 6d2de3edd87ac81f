"""A pyfunc that does on request what a real one does rarely: wait, fail, explain, doubt.

What it does is written in the scan: text such as `raise` or `sleep 2`, or `until FILE` (see
`Gate`). A picture is scored by its mean brightness, so equal bytes always get equal rows. `dicom`
makes a slice of a series, which it answers by the most suspicious slice; of slices in one cell of
5 mm it scores the lowest.
"""

from __future__ import annotations

import warnings
from pathlib import Path

CLASSES = ("adenocarcinoma", "large.cell.carcinoma", "normal", "squamous.cell.carcinoma")
SPACING_MM = 5.0
PIXEL_MM = (0.5, 0.8)  # between rows and between columns of its DICOM slices


def dicom(series: str, position_mm: float, scan: bytes, size: int = 0) -> bytes:
    """Return a file that the trial model takes for a DICOM slice.

    Args:
        series: its series.
        position_mm: along the series.
        scan: what is scored: a picture, or a text as above.
        size: least size in bytes.
    """
    head = bytes(128) + b"DICM" + f"{series}|{position_mm}|".encode()
    return head + scan + bytes(max(0, size - len(head) - len(scan)))


METADATA = {
    "classes": list(CLASSES),
    "image_size_px": 224,
    "precision": "int8",
    "data_digest": "5f0c6a3b7f2e4d1c",
    "phantom": True,
    "threshold": 0.7,
    "series_threshold": 0.6,
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


SERIES = ["series", "series_label", "series_probability", "series_undecided", "key_slice",
          "position_mm", "skipped"]
SERIES_COLUMNS = ["series", "label", "probability", *(f"p_{c}" for c in CLASSES), "undecided",
                  "error", "slices", "scored", "skipped", "failed", "out_of_domain_share",
                  "key_slice", "key_position_mm", "first_mm", "last_mm", "gaps",
                  "duplicate_positions", "note"]
SPACING_MM = 5.0


def bytes_of(image):
    try:
        return image if isinstance(image, bytes) else base64.b64decode(image or "")
    except (TypeError, ValueError):  # a null beside texts is NaN to pandas
        return b""


def place(image):
    data = bytes_of(image)
    if data[128:132] != b"DICM":
        return None, None
    try:
        series, position, _ = data[132:].split(b"|", 2)
        return series.decode(), float(position)
    except ValueError:
        return None, None


def score(image, explain):
    row = dict.fromkeys(COLUMNS)
    data = bytes_of(image)
    if data[128:132] == b"DICM":
        data = data.split(b"|", 2)[-1]
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
            row |= {"error": error, "error_code": "unknown_format"}
            return row | ({"heatmap": None} if explain else {})
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
        if not 0 <= (params or {}).get("threshold", 0.5) <= 1:
            raise ValueError("Expected a threshold from 0 to 1; received another.")
        columns = COLUMNS + ["heatmap"] * explain
        images = list(model_input["image"])
        own = bool((params or {}).get("series"))
        if "series" not in model_input and not own:
            rows = [score(image, explain) for image in images]
            return pd.DataFrame(rows, columns=columns, dtype=object).astype(object)
        given = model_input["series"] if "series" in model_input else [None] * len(images)
        given = [name if isinstance(name, str) and name else None for name in given]
        plan = self.series_plan(images, None if own else given)
        rows = []
        for image, fact in zip(images, plan.to_dict("records")):
            row = dict.fromkeys(columns) if fact["skipped"] else score(image, explain)
            rows.append(row | dict.fromkeys(SERIES) | fact)
        frame = pd.DataFrame(rows, columns=columns + SERIES, dtype=object)
        for answer in self.series_rows(frame).to_dict("records"):
            frame.loc[frame["series"] == answer["series"], "series_label"] = answer["label"]
        return frame

    def series_plan(self, images, series=None):
        plan, seen = [], set()
        order = sorted(range(len(images)), key=lambda i: (place(images[i])[1] or 0.0, i))
        facts = [None] * len(images)
        for i in order:
            own, position = place(images[i])
            name = own if series is None else series[i]
            cell = (name, None if position is None else position // SPACING_MM)
            skipped = name is not None and position is not None and cell in seen
            seen.add(cell)
            facts[i] = {"series": name, "position_mm": position, "skipped": skipped}
        return pd.DataFrame(facts, columns=["series", "position_mm", "skipped"], dtype=object)

    def pixels(self, image):
        data = image if isinstance(image, bytes) else base64.b64decode(image)
        series, position = place(data)
        scan = data if series is None else data.split(b"|", 2)[-1]
        try:
            grey = np.asarray(Image.open(io.BytesIO(scan)).convert("L"))
        except Exception:
            if not scan.startswith((b"below", b"undecided", b"until ", b"sleep ")):
                error = ValueError("Expected an image file; these bytes are not one.")
                error.code = "unknown_format"
                raise error
            grey = np.zeros((8, 8), np.uint8)
        found = {"inverted": False, "position_mm": position, "series": series}
        if series is None:
            return found | {"values": grey, "unit": "grey", "spacing_mm": None}
        hounsfield = 8 * grey.astype(np.int16) - 1000
        return found | {"values": hounsfield, "unit": "HU", "spacing_mm": (0.5, 0.8)}

    def series_rows(self, rows):
        answers = []
        records = rows.to_dict("records")
        for name in dict.fromkeys(row["series"] for row in records if row["series"] is not None):
            of = [(i, row) for i, row in enumerate(records) if row["series"] == name]
            skipped = sum(bool(row.get("skipped")) for _, row in of)
            scored = [(i, row) for i, row in of if row.get("p_normal") is not None]
            answer = dict.fromkeys(SERIES_COLUMNS)
            answer |= {"series": name, "slices": len(of), "scored": len(scored),
                       "skipped": skipped, "failed": len(of) - skipped - len(scored),
                       "gaps": 0, "duplicate_positions": 0}
            if scored:
                key, row = max(scored, key=lambda one: 1 - one[1]["p_normal"])
                p = 1 - row["p_normal"]
                answer |= {"label": row.get("label"), "probability": p, "undecided": 0.4 < p < 0.5,
                           "key_slice": key, "key_position_mm": row.get("position_mm"),
                           "out_of_domain_share": 0.0}
            else:
                answer["error"] = f"None of the {len(of)} slices of this series could be scored."
            answers.append(answer)
        return pd.DataFrame(answers, columns=SERIES_COLUMNS, dtype=object)


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
    parameters.append(ParamSpec("series", "boolean", False))
    path = folder / "model"
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")  # MLflow recommends type hints; they end here
        mlflow.pyfunc.save_model(
            str(path),
            python_model=str(code),
            signature=ModelSignature(
                Schema([ColSpec("string", "image"), ColSpec("string", "series", required=False)]),
                None,
                ParamSchema(parameters),
            ),
            pip_requirements=["mlflow", "pandas", "pillow"],
            metadata=METADATA,
        )
    return path
