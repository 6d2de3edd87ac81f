"""Pages made by the server itself, for browsers without JavaScript."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATES = Path(__file__).resolve().parents[1] / "templates"


@functools.cache
def environment() -> Environment:
    """Return jinja2 with every value escaped, and an error for every name that is missing."""
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def html_page(template: str, **values: Any) -> bytes:
    """Return a page in the look of the site.

    Args:
        template: name of a file in `serve/templates`.
        values: what the template shows; text is escaped.
    """
    return environment().get_template(template).render(**values).encode()
