"""The evaluation as one self-contained HTML page, to be read from top to bottom."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from steps.evaluation.facts import read_facts
from steps.evaluation.gallery import read_gallery
from steps.headline_metrics import at
from steps.mlflow_names import numbers

PICTURES = ("confusion_matrix", "roc", "reliability", "near_duplicates")
KINDS = {".png": "image/png", ".jpg": "image/jpeg"}
CALIBRATION = {"ece": "ECE", "brier": "Brier score", "loss": "cross-entropy"}
PLACES = {"held-out groups": "calibration.held_out_groups", "test split": "calibration.test"}
TEMPLATE = Path(__file__).with_name("report.html.j2")


def write_report(
    folder: Path, scores: Mapping[str, Any], external: Sequence[Mapping[str, Any]] = ()
) -> None:
    """Write report.html beside the pictures of an evaluation, which it carries inside.

    Args:
        folder: holds the PICTURES that there are, and what `write_facts` and `write_gallery` wrote.
        scores: contents of scores.json.
        external: contents of scores.json of each external evaluation of the model.
    """
    pictures = {
        name: _data_uri(folder / f"{name}.png")
        for name in PICTURES
        if (folder / f"{name}.png").is_file()
    }
    gallery = read_gallery(folder)
    for shown in gallery["shown"] if gallery else ():
        pictures[shown["picture"]] = _data_uri(folder / shown["picture"])
    text = page(
        TEMPLATE,
        scores={"stress": None, "protocol": None, "series": None, "patients": None} | dict(scores),
        facts=read_facts(folder),
        gallery=gallery,
        worse=made_worse(scores),
        numbers=list(numbers(scores)),
        pictures=pictures,
        external=external,
    )
    (folder / "report.html").write_text(text, encoding="utf-8")


def made_worse(scores: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Find where the temperature raised an error of the probabilities.

    Args:
        scores: contents of scores.json.

    Returns:
        By place, the measures that rose: `title`, `before` and `after`, which differ in the three
        digits that are shown.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for place, path in PLACES.items():
        for measure, title in CALIBRATION.items():
            before, after = (at(scores, f"{path}.{when}.{measure}") for when in ("before", "after"))
            if before is not None and after is not None and round(after, 3) > round(before, 3):
                rise = {"title": title, "before": before, "after": after}
                found.setdefault(place, []).append(rise)
    return found


def page(template: Path, **values: Any) -> str:
    """Render a page of this folder; it extends page.html.j2, which holds the style.

    Args:
        template: file in this folder.
        values: that the template names; a missing one is an error.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"share": _share, "between": _between}
    return environment.get_template(template.name).render(**values)


def _share(value: float | None) -> str:
    """Write a share of 1 to three decimals, a missing one as a dash."""
    return "–" if value is None else f"{value:.3f}"


def _between(interval: tuple[float, float] | None) -> str:
    """Write a 95 % interval in brackets, nothing for a missing one."""
    return "" if not interval else f"({interval[0]:.3f}–{interval[1]:.3f})"


def _data_uri(path: Path) -> str:
    return f"data:{KINDS[path.suffix]};base64," + base64.b64encode(path.read_bytes()).decode(
        "ascii"
    )
