"""Parameters of the whole pipeline: from the command line to overrides.yaml, and out again."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from steps import folders
from steps.errors import StageError
from steps.main import ROOT, STAGES, given_parameters, only_run
from steps.settings import OVERRIDES, overridden, overrides

TEXT = """# mine
data_ingestion:
  source: phantom # or a zip
training:
  epochs: 50
"""
NOTHING: dict[str, dict[str, object]] = {stage: {} for stage in STAGES}


@pytest.fixture
def params(tmp_path: Path) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text(TEXT)
    return path


def test_a_value_is_given_in_any_of_the_three_forms() -> None:
    words = ["epochs=3", "--class_patterns=a=b;c=d", "--l2", "-1", "--source", "x y", "sha256="]
    assert given_parameters(words) == [
        ("epochs", "3"),
        ("class_patterns", "a=b;c=d"),
        ("l2", "-1"),
        ("source", "x y"),
        ("sha256", ""),
    ]
    with pytest.raises(StageError, match=r"Expected name=value.*received 'epochs'"):
        given_parameters(["epochs"])


def test_a_given_value_wins_also_where_it_is_the_default(params: Path) -> None:
    assert overrides([("epochs", "200")], params)["training"] == {"epochs": 200}
    assert overrides([("epochs", "50")], params) == NOTHING, "params.yaml says so already"


def test_values_are_typed_as_declared(params: Path) -> None:
    given = [("source", "/a b/$HOME/`x`.zip"), ("epochs", "3.0"), ("l2", "1e-4")]
    found = overrides([*given, ("register", "true")], params)
    assert found == {
        "data_ingestion": {"source": "/a b/$HOME/`x`.zip"},
        "prepare_base_model": {},
        "training": {"epochs": 3, "l2": 1e-4},
        "evaluation": {"register": True},
    }
    assert isinstance(found["training"]["epochs"], int)


def test_a_name_that_several_stages_have_sets_them_all(params: Path) -> None:
    found = overrides([("seed", "7")], params)
    assert found == {
        "data_ingestion": {"seed": 7},
        "prepare_base_model": {"seed": 7},
        "training": {"seed": 7},
        "evaluation": {},
    }


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("epoch", "3", "There is no parameter 'epoch'. Did you mean epochs?"),
        ("epochs", "many", "Expected epochs to be a whole number, at least 1; received 'many'"),
        ("epochs", "0", "Expected epochs to be a whole number, at least 1; received '0'"),
        ("epochs", "1.5", "Expected epochs to be a whole number, at least 1; received '1.5'"),
        ("l2", "nan", "Expected l2 to be a number, at least 0; received 'nan'"),
        ("dropout", "1", "Expected dropout to be a number, at least 0, below 1; received '1'"),
        ("precision", "int4", "Expected precision to be int8, bf16 or f32; received 'int4'"),
        ("resplit", "perhaps", "Expected resplit to be true or false; received 'perhaps'"),
    ],
)
def test_a_parameter_that_does_not_fit_gets_one_sentence(
    params: Path, name: str, value: str, message: str
) -> None:
    with pytest.raises(StageError) as refused:
        overrides([(name, value)], params)
    assert str(refused.value).startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training:\n  epoch: 3\n", "There is no parameter 'epoch' in .*Did you mean epochs"),
        ("training:\n  epochs: true\n", "Expected training.epochs in .*received True"),
        ("data_ingestion:\n  sha256: 12\n", "Expected data_ingestion.sha256 in .*to be text"),
        ("training: [\n", "cannot be read as sections of parameters"),
        ("- 3\n", "cannot be read as sections of parameters"),
    ],
)
def test_a_fault_in_params_yaml_names_the_file(params: Path, text: str, message: str) -> None:
    params.write_text(text)
    with pytest.raises(StageError, match=message):
        overrides([], params)


def test_values_of_a_run_stand_beside_params_yaml_until_it_ends(params: Path) -> None:
    changes = NOTHING | {"data_ingestion": {"source": "s3://b/scans.zip"}}
    with overridden(changes, params.parent):
        inside = (params.parent / OVERRIDES).read_text()
        assert yaml.safe_load(inside) == changes
        params.write_text(TEXT + "# edited during the run\n")
    assert yaml.safe_load((params.parent / OVERRIDES).read_text()) == NOTHING
    assert params.read_text().endswith("# edited during the run\n")


def test_the_committed_file_changes_nothing(tmp_path: Path) -> None:
    with overridden(NOTHING, tmp_path):
        assert (tmp_path / OVERRIDES).read_bytes() == (ROOT / OVERRIDES).read_bytes()
    assert (tmp_path / OVERRIDES).read_bytes() == (ROOT / OVERRIDES).read_bytes()


def test_a_killed_run_leaves_params_yaml_alone_and_the_next_run_forgets_it(params: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from steps.settings import overridden\n"
        "with overridden({'training': {'epochs': 3}}, Path(sys.argv[1])):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(params.parent)], cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL
    assert params.read_text() == TEXT
    left = yaml.safe_load((params.parent / OVERRIDES).read_text())
    assert left["training"] == {"epochs": 3}
    with overridden(NOTHING, params.parent):
        assert yaml.safe_load((params.parent / OVERRIDES).read_text()) == NOTHING


def test_a_full_disk_leaves_both_files_whole(params: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full when the values are written, or when they are to be taken out again."""
    with overridden(NOTHING, params.parent):
        pass
    before = (params.parent / OVERRIDES).read_bytes()
    changes = NOTHING | {"training": {"epochs": 3}}

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(folders.os, "fsync", full)
        with pytest.raises(OSError, match="No space"), overridden(changes, params.parent):
            pass
    assert (params.parent / OVERRIDES).read_bytes() == before
    with overridden(changes, params.parent):
        monkeypatch.setattr(folders.os, "fsync", full)
    assert (params.parent / OVERRIDES).read_bytes() == before
    assert params.read_text() == TEXT
    left = sorted(p.name for p in params.parent.rglob("*") if p.is_file())
    assert left == [OVERRIDES, "params.yaml"]


def test_a_second_run_in_the_checkout_is_kept_out_until_the_first_has_ended(
    tmp_path: Path,
) -> None:
    with only_run(tmp_path), pytest.raises(StageError, match="Another run"), only_run(tmp_path):
        pass
    with only_run(tmp_path):
        pass
