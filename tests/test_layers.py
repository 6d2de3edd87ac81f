"""The folders know only what they may know (see the table in docs/architecture.md)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = {"scans", "model", "steps", "batch", "serve", "benchmarks", "tests"}
MUST_NOT_IMPORT = {
    "scans": {"keras", "tensorflow", "mlflow"} | PROJECT - {"scans", "model"},
    "model": {"boto3", "botocore", "dvc", "yaml"} | PROJECT - {"model"},
    "steps": {"boto3", "botocore", "fastapi", "uvicorn", "batch", "serve", "benchmarks", "tests"},
    "batch": {"keras", "tensorflow"} | PROJECT - {"batch"},
    "serve": {"keras", "tensorflow"} | PROJECT - {"serve"},
}


def imported_packages(path: Path) -> set[str]:
    """Return the top-level packages that a module imports, anywhere in it."""
    packages = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            packages |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            packages.add(node.module.split(".")[0])
    return packages


@pytest.mark.parametrize("folder", MUST_NOT_IMPORT)
def test_folder_imports_only_what_it_may_know(folder: str) -> None:
    modules = sorted((ROOT / folder).rglob("*.py"))
    assert modules
    for module in modules:
        forbidden = imported_packages(module) & MUST_NOT_IMPORT[folder]
        assert not forbidden, f"{module.relative_to(ROOT)} imports {sorted(forbidden)}"


def test_scans_know_only_the_decoder_of_the_model() -> None:
    imports = [
        node.module or ""
        for path in (ROOT / "scans").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "model"
    ]
    assert imports
    assert all(name.startswith("model.decoding.") for name in imports)


def test_no_drawer_modules() -> None:
    drawers = {"utils.py", "common.py", "config.py", "constants.py", "helpers.py", "misc.py"}
    found = [p for f in MUST_NOT_IMPORT for p in (ROOT / f).rglob("*.py") if p.name in drawers]
    assert not found
