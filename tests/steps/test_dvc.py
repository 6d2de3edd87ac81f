"""What DVC runs again after a change, as `dvc status` says it."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo

ROOT = Path(__file__).resolve().parents[2]
OUTPUTS = ("data_ingestion", "prepare_base_model", "training", "evaluation")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code and the pipeline's files, with outputs that DVC takes for those of a run."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("model", "scans", "steps"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", "params.yaml", "overrides.yaml", "MLproject"):
        shutil.copy2(ROOT / name, folder / name)
    for stage in OUTPUTS:
        (folder / "artifacts" / stage).mkdir(parents=True)
        (folder / "artifacts" / stage / "output").write_text(stage)
    (folder / "scores.json").write_text("{}")
    with contextlib.chdir(folder):
        Repo.init(no_scm=True).close()
    with contextlib.chdir(folder), Repo() as repo:
        repo.commit(force=True)
    return folder


@pytest.fixture
def code(checkout: Path, tmp_path: Path) -> Iterator[Path]:
    """The checkout as it was after the run, whatever a test changes in it."""
    folder = tmp_path / "checkout"
    shutil.copytree(checkout, folder, symlinks=True)
    yield folder


def changed_stages(folder: Path) -> set[str]:
    with contextlib.chdir(folder), Repo() as repo:
        return set(repo.status())


def test_nothing_runs_again_after_a_run(code: Path) -> None:
    assert changed_stages(code) == set()


@pytest.mark.parametrize(
    ("path", "stages"),
    [
        ("steps/gates/staging.py", set()),
        ("steps/registry/moves.py", set()),
        ("steps/promote.py", set()),
        ("steps/headline.py", set()),
        ("steps/parameters.py", set()),
        ("steps/evaluation/stress.py", {"evaluation"}),
        ("steps/metrics.py", {"evaluation"}),
        ("steps/training/head.py", {"training", "evaluation"}),
        ("scans/splits.py", {"data_ingestion"}),
    ],
)
def test_a_change_in_code_runs_only_what_uses_it(code: Path, path: str, stages: set[str]) -> None:
    """A stage whose input is another's output follows once that output has changed."""
    with (code / path).open("a") as file:
        file.write("# changed\n")
    assert changed_stages(code) == stages


def test_what_a_run_changes_is_seen_in_its_section_only(code: Path) -> None:
    path = code / "overrides.yaml"
    values = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(values | {"training": {"epochs": 3}}))
    assert changed_stages(code) == {"training"}


def test_dvc_starts_a_stage_without_its_values(code: Path) -> None:
    """So no shell reads them; `$`, quotes and back-quotes in params.yaml are text."""
    params = yaml.safe_load((code / "params.yaml").read_text())
    params["data_ingestion"]["source"] = 'pay ${HOME} `id` "x" $(id)'
    (code / "params.yaml").write_text(yaml.safe_dump(params))
    with contextlib.chdir(code), Repo() as repo:
        stage = next(s for s in repo.index.stages if s.name == "data_ingestion")
        assert stage.cmd == "python -m steps.data_ingestion"
        assert repo.status()["data_ingestion"] == [
            {"changed deps": {"params.yaml": {"data_ingestion": "modified"}}}
        ]
