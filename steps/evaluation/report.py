"""The evaluation as one self-contained HTML page, to be read from top to bottom."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

PICTURES = ("confusion_matrix", "roc", "reliability", "near_duplicates")
TEMPLATE = Path(__file__).with_name("report.html.j2")


def write_report(
    folder: Path, scores: Mapping[str, Any], external: Sequence[Mapping[str, Any]] = ()
) -> None:
    """Write report.html beside the pictures of an evaluation, which it carries inside.

    Args:
        folder: holds the PICTURES that there are.
        scores: contents of scores.json.
        external: contents of scores.json of each external evaluation of the model.
    """
    pictures = {
        name: _data_uri(folder / f"{name}.png")
        for name in PICTURES
        if (folder / f"{name}.png").is_file()
    }
    text = page(
        TEMPLATE,
        scores={"stress": None, "protocol": None, "series": None} | dict(scores),
        pictures=pictures,
        external=external,
    )
    (folder / "report.html").write_text(text, encoding="utf-8")


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
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")
