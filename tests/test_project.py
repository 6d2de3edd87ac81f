"""Files that must agree, agree."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from steps.main import STAGES
from steps.parameters import SECTIONS, Section, parameters_of
from steps.parameters_page import PAGE, page
from steps.settings import OVERRIDES

ROOT = Path(__file__).resolve().parents[1]
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())
PROJECT = yaml.safe_load((ROOT / "MLproject").read_text())["entry_points"]
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
# Modules that log, fail or hand over: a change in them changes no result. That a parameter has
# another value, DVC sees in params.yaml.
NO_RESULTS = {"errors", "folders", "tracking", "log", "headline", "__init__"}
NO_RESULTS |= {
    "parameters",
    "settings",
    "options",
    "register",
    "mlflow_names",
    "tensorflow_quietly",
}


def stage_module(stage: str) -> str:
    """Return the module that `python -m steps.<stage>` runs."""
    if stage == "external_evaluation":
        return "steps.evaluation.external"
    return f"steps.{stage}.__main__" if (ROOT / "steps" / stage).is_dir() else f"steps.{stage}"


def same(left: Any, right: Any) -> bool:
    """Compare values that YAML and Python may type differently (0 and 0.0)."""
    return left == right and isinstance(left, bool) == isinstance(right, bool)


def test_params_yaml_has_the_declared_parameters_with_their_defaults() -> None:
    assert list(PARAMS) == [section.section for section in SECTIONS]
    for section in SECTIONS:
        declared = parameters_of(section)
        assert list(PARAMS[section.section]) == list(declared)
        for name, field in declared.items():
            assert same(PARAMS[section.section][name], field.default), name


def test_a_default_fits_its_own_declaration() -> None:
    for section in SECTIONS:
        assert section() == section.model_validate(PARAMS[section.section])


def test_a_parameter_is_described_by_a_sentence() -> None:
    for section in SECTIONS:
        for name, field in parameters_of(section).items():
            assert re.fullmatch(r"[A-Z].{15,}\.", field.description or ""), name


def test_the_page_of_parameters_is_up_to_date() -> None:
    """Written anew by `python -m steps.parameters_page`."""
    assert PAGE.read_text(encoding="utf-8") == page()


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.section)
def test_a_stage_has_one_name_everywhere_and_takes_its_parameters(section: type[Section]) -> None:
    name = section.section
    command = importlib.import_module(stage_module(name)).main
    assert {p.name for p in command.params} >= {*parameters_of(section), "params"}
    assert PROJECT[name]["command"].startswith(
        f"python -m {stage_module(name).removesuffix('.__main__')}"
    )
    assert not set(PROJECT[name].get("parameters", {})) & set(parameters_of(section))
    if name in PIPELINE:
        assert PIPELINE[name]["cmd"] == f"python -m steps.{name}"
        assert PIPELINE[name]["params"] == [name, {OVERRIDES: [name]}]
        assert f"artifacts/{name}" in str(PIPELINE[name]["outs"])


def test_the_pipeline_is_the_four_stages_in_order() -> None:
    assert tuple(PIPELINE) == STAGES
    assert PROJECT["main"]["command"] == "python -m steps.main"
    assert "parameters" not in PROJECT["main"]


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
    assert missing == []


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_nothing_that_is_not_there(stage: str) -> None:
    code = [dep for dep in PIPELINE[stage]["deps"] if not dep.startswith("artifacts/")]
    assert [dep for dep in code if not (ROOT / dep).exists()] == []


def test_conda_takes_the_pins_of_requirements() -> None:
    conda = yaml.safe_load((ROOT / "conda.yaml").read_text())["dependencies"]
    assert next(e["pip"] for e in conda if isinstance(e, dict)) == ["-r requirements.txt"]


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
