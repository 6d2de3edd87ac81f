"""Files that must agree, agree."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from steps.main import STAGES

ROOT = Path(__file__).resolve().parents[1]
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())
PROJECT = yaml.safe_load((ROOT / "MLproject").read_text())["entry_points"]
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
# Modules that log, fail or hand over: a change in them changes no result.
NO_RESULTS = {"errors", "folders", "tracking", "log", "headline", "__init__"}
EVALUATED = {"metrics.py", "prepare_base_model.py"}
PLACES = {"data", "prepared", "trained", "output", "scores_path"}  # where a stage reads and writes


def stage_module(stage: str) -> str:
    """Return the module that `python -m steps.<stage>` runs."""
    return f"steps.{stage}.__main__" if (ROOT / "steps" / stage).is_dir() else f"steps.{stage}"


def command_options(stage: str) -> dict[str, click.Option]:
    """Return a stage's click options by parameter name, without those that name folders."""
    command = importlib.import_module(stage_module(stage)).main
    return {p.name: p for p in command.params if p.name not in PLACES}


def same(left: Any, right: Any) -> bool:
    """Compare values that YAML and click may type differently (0 and 0.0)."""
    return left == right and isinstance(left, bool) == isinstance(right, bool)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_has_one_name_and_one_set_of_parameters_everywhere(stage: str) -> None:
    declared = PROJECT[stage]["parameters"]
    options = command_options(stage)
    assert set(declared) == set(PARAMS[stage]) == set(options)
    for name, value in PARAMS[stage].items():
        assert same(declared[name]["default"], value), f"MLproject and params.yaml: {name}"
        assert same(options[name].default, value), f"--{name} and params.yaml"
        assert f"--{name.replace('_', '-')} {{{name}}}" in PROJECT[stage]["command"]
        assert f"${{{stage}.{name}}}" in PIPELINE[stage]["cmd"]
    assert f"python -m steps.{stage} " in PIPELINE[stage]["cmd"]


def test_main_takes_every_parameter_of_every_stage() -> None:
    declared = PROJECT["main"]["parameters"]
    assert set(declared) == {name for stage in STAGES for name in PARAMS[stage]}
    for stage in STAGES:
        for name, value in PARAMS[stage].items():
            assert same(declared[name]["default"], value), name
            assert f"{name}={{{name}}}" in PROJECT["main"]["command"]


def test_every_parameter_is_typed() -> None:
    for entry_point in PROJECT.values():
        for name, spec in entry_point["parameters"].items():
            assert spec["type"] in ("string", "float", "path", "uri"), name
            number = isinstance(spec.get("default"), int | float)
            number = number and not isinstance(spec["default"], bool)
            assert (spec["type"] == "float") == number, name


def test_the_pipeline_is_the_four_stages_in_order() -> None:
    assert tuple(PIPELINE) == STAGES
    for stage in STAGES:
        assert f"artifacts/{stage}" in str(PIPELINE[stage]["outs"])


def imported_modules(path: Path) -> set[Path]:
    """Return the project's modules that a module imports."""
    names = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    files = {Path(name.replace(".", "/") + ".py") for name in names}
    return {file for file in files if (ROOT / file).is_file()}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_runs_again_when_code_that_makes_its_results_changes(stage: str) -> None:
    """What only tells, fails or hands over is left out, lest a message re-trains the model."""
    reached, coming = set(), {Path(stage_module(stage).replace(".", "/") + ".py")}
    while coming:
        path = coming.pop()
        reached.add(path)
        coming |= {
            file
            for file in imported_modules(path) - reached
            if file.stem not in NO_RESULTS and (file.parts[0] != "scans" or stage == STAGES[0])
        }
    deps = [Path(text) for text in PIPELINE[stage]["deps"]]
    missing = [str(f) for f in reached if not any(f.is_relative_to(dep) for dep in deps)]
    if stage == "training":  # it writes its record by way of the evaluation's context
        missing = [
            name
            for name in missing
            if not name.startswith("steps/evaluation/") and Path(name).name not in EVALUATED
        ]
    assert missing == []


def test_conda_has_the_pins_of_requirements() -> None:
    conda = yaml.safe_load((ROOT / "conda.yaml").read_text())["dependencies"]
    pins = next(entry["pip"] for entry in conda if isinstance(entry, dict))
    assert len(pins) == len(set(pins))
    assert set(pins) == set(requirements("requirements.txt"))


def requirements(name: str) -> list[str]:
    """Return the requirement lines of a file, those it includes too."""
    found = []
    for line in (ROOT / name).read_text().splitlines():
        text = line.split(" #")[0].strip()
        if text.startswith("-r "):
            found += requirements(text.removeprefix("-r "))
        elif text and not text.startswith("#"):
            found.append(text)
    return found


@pytest.mark.parametrize("path", sorted(ROOT.glob("requirements*.txt")), ids=lambda p: p.name)
def test_every_requirement_is_pinned_once(path: Path) -> None:
    pins: dict[str, set[str]] = {}
    for line in requirements(path.name):
        match = re.match(r"([A-Za-z0-9_.-]+)(\[[^]]*\])?==([^;\s]+)(\s*;.*)?$", line)
        assert match, line
        pins.setdefault(match[1], set()).add(match[3])
    assert all(len(versions) == 1 for versions in pins.values())


def test_all_requirement_files_agree() -> None:
    versions: dict[str, str] = {}
    for path in ROOT.glob("requirements*.txt"):
        for line in requirements(path.name):
            name, _, version = line.split(";")[0].partition("==")
            name = name.split("[")[0].strip()
            assert versions.setdefault(name, version.strip()) == version.strip(), name


def test_readme_names_every_parameter() -> None:
    readme = (ROOT / "README.md").read_text() + "".join(
        p.read_text() for p in (ROOT / "docs").glob("*.md")
    )
    missing = [n for stage in STAGES for n in PARAMS[stage] if f"`{n}`" not in readme]
    assert not missing
