"""axe-core's rules of accessibility, run on a page that a browser shows."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from tests.serve.browser import Page

RUN = """
const done = arguments[0];
axe.run().then(({ violations, passes }) => done([
  passes.length,
  violations.map(({ id, nodes }) => `${id}: ${nodes.map((n) => n.html.slice(0, 120)).join(" | ")}`),
]));
"""


def axe_source() -> str:
    """Return axe-core's script, which the package selenium-axe-python carries."""
    spec = importlib.util.find_spec("selenium_axe_python")
    assert spec is not None and spec.origin is not None, "pip install -r requirements-dev.txt"
    return (Path(spec.origin).parent / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


def violations(page: Page) -> list[str]:
    """Return what axe-core finds wrong with the page as it is shown now."""
    if not page.driver.execute_script("return 'axe' in window"):
        # The page's content-security policy allows no inline script; the debugger is above it.
        expression = {"expression": axe_source() + ";0"}
        page.driver.execute_cdp_cmd("Runtime.evaluate", expression)
    passes, found = page.driver.execute_async_script(RUN)
    assert passes > 5
    broken: list[str] = found
    return broken
