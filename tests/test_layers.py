"""The folders know only what they may know (see the table in docs/architecture.md)."""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = {"scans", "model", "steps", "batch", "serve", "logs", "benchmarks", "tests"}
MUST_NOT_IMPORT = {
    "scans": {"keras", "tensorflow", "mlflow"} | PROJECT - {"scans", "model"},
    "model": {"boto3", "botocore", "dvc", "yaml"} | PROJECT - {"model"},
    "steps": {"boto3", "botocore", "fastapi", "uvicorn", "batch", "serve", "benchmarks", "tests"},
    "batch": {"keras", "tensorflow"} | PROJECT - {"batch", "logs"},
    "serve": {"keras", "tensorflow"} | PROJECT - {"serve", "logs"},
    "logs": {"keras", "tensorflow", "click"} | PROJECT - {"logs"},
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


def module_name(path: Path) -> str:
    """Return the dotted name of a module of the repository."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_names(path: Path) -> set[str]:
    """Return the dotted names that a module imports, also inside functions and relatively."""
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*start, *([node.module] if node.module else [])])
            names |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return names


def test_no_circle_of_imports() -> None:
    paths = [path for folder in sorted(PROJECT) for path in (ROOT / folder).rglob("*.py")]
    modules = {module_name(path): path for path in paths}
    graph = {name: (imported_names(path) & set(modules)) - {name} for name, path in modules.items()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"A circle of imports: {' imports '.join(error.args[1][::-1])}")
