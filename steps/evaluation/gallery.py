"""The test scans that the model got wrong or nearly wrong, with what each answer rests on."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from model.artefact import Card
from model.decision import disease_probability, healthy_indices
from model.decoding.scan_file import decode_grey
from scans.manifest import ManifestRow

FOLDER = "gallery"
INDEX = "gallery.json"
SHOWN_WRONG = 12
SHOWN_NEARLY_WRONG = 6
SIDE_PX = 240  # of the longer side of a picture
HEAT_OPACITY = 0.6  # where the evidence is strongest


def distance_to_another_answer(p: NDArray[np.float64], card: Card) -> NDArray[np.float64]:
    """Return by how much probability each answer stands, (n,): the less, the more nearly wrong.

    The distance of the probability of disease to the threshold, or of the likeliest class to the
    next one, whichever is smaller where both decide.

    Args:
        p: probabilities (n, classes).
        card: of the model.
    """
    ordered = np.sort(p, axis=1)
    between_classes: NDArray[np.float64] = ordered[:, -1] - ordered[:, -2]
    if card.threshold is None or not healthy_indices(card.classes, card.healthy_classes):
        return between_classes
    disease = disease_probability(p, card.classes, card.healthy_classes)
    to_threshold: NDArray[np.float64] = np.abs(disease - card.threshold)
    return to_threshold if p.shape[1] == 2 else np.minimum(to_threshold, between_classes)


def chosen(
    predictions: pd.DataFrame, card: Card
) -> tuple[list[int], list[int], int, NDArray[np.float64]]:
    """Choose the scans to show.

    Args:
        predictions: rows of the pyfunc, with `actual`.
        card: of the model.

    Returns:
        Positions of the wrong ones, the surest first, and of the right ones that were nearest to
        another answer; how many were wrong; the distances of all (n,).
    """
    p = predictions[[f"p_{name}" for name in card.classes]].to_numpy(np.float64)
    distance = distance_to_another_answer(p, card)
    wrong = (predictions["label"] != predictions["actual"]).to_numpy(bool)
    surest = [int(i) for i in np.argsort(-distance, kind="stable") if wrong[i]]
    nearest = [int(i) for i in np.argsort(distance, kind="stable") if not wrong[i]]
    return surest[:SHOWN_WRONG], nearest[:SHOWN_NEARLY_WRONG], len(surest), distance


def write_gallery(
    folder: Path,
    model: Any,
    data: Path,
    rows: Sequence[ManifestRow],
    predictions: pd.DataFrame,
    card: Card,
) -> None:
    """Write gallery.json and a picture per shown scan: the scan, and its heat map over it.

    Args:
        folder: of the evaluation.
        model: the loaded pyfunc.
        data: folder of the manifest.
        rows: of the test scans.
        predictions: of the same scans, in order, with `actual`.
        card: of the model.
    """
    wrong, nearly, count, distance = chosen(predictions, card)
    shown = [*wrong, *nearly]
    (folder / FOLDER).mkdir()
    files = [(data / rows[i].path).read_bytes() for i in shown]
    entries = []
    if files:
        maps = model.predict(pd.DataFrame({"image": files}), params={"explain": True})["heatmap"]
        for place, (i, file, heat) in enumerate(zip(shown, files, maps, strict=True)):
            picture = f"{FOLDER}/{place:02d}.jpg"
            side_by_side(decode_grey(file), heat).save(folder / picture, quality=85)
            entries.append(_entry(predictions.iloc[i], picture, i in wrong, distance[i], card))
    index = {"wrong": count, "scans": len(rows), "shown": entries}
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _entry(
    row: pd.Series, picture: str, wrong: bool, distance: float, card: Card
) -> dict[str, Any]:
    p = row[[f"p_{name}" for name in card.classes]].to_numpy(np.float64)[np.newaxis]
    has_healthy = bool(healthy_indices(card.classes, card.healthy_classes))
    disease = disease_probability(p, card.classes, card.healthy_classes)[0]
    return {
        "picture": picture,
        "sha256": row["sha256"],  # file names may name patients
        "actual": row["actual"],
        "label": row["label"],
        "probability": float(row["probability"]),
        "p_disease": float(disease) if has_healthy else None,
        "threshold": card.threshold if has_healthy else None,
        "distance": float(distance),
        "wrong": wrong,
        "out_of_domain": bool(row.get("out_of_domain") or False),
        "undecided": bool(row.get("undecided") or False),
    }


def side_by_side(grey: NDArray[np.uint8], heatmap: str | None) -> Image.Image:
    """Put a scan beside itself with its heat map.

    Args:
        grey: levels (height, width).
        heatmap: base64 text of the RGBA PNG that the pyfunc gives, or None.

    Returns:
        An RGB picture, twice as wide as the scan, which is made to fit SIDE_PX.
    """
    scan = Image.fromarray(grey).convert("RGB")
    scan.thumbnail((SIDE_PX, SIDE_PX), Image.Resampling.BOX, reducing_gap=None)
    pair = Image.new("RGB", (2 * scan.width, scan.height))
    pair.paste(scan, (0, 0))
    pair.paste(scan, (scan.width, 0))
    if heatmap:
        heat = Image.open(io.BytesIO(base64.b64decode(heatmap))).convert("RGBA").resize(scan.size)
        opacity = heat.getchannel("A").point(lambda value: round(value * HEAT_OPACITY))
        pair.paste(heat.convert("RGB"), (scan.width, 0), opacity)
    return pair


def read_gallery(folder: Path) -> dict[str, Any] | None:
    """Return what `write_gallery` wrote; None for an evaluation of an older version."""
    path = folder / INDEX
    if not path.is_file():
        return None
    index: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return index
