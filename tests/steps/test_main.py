"""Parameters of the whole pipeline: from the command line to params.yaml and back."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from steps.errors import StageError
from steps.main import SAVED_PARAMS, changed_params, only_run, overrides, restore_params

PARAMS = {
    "data_ingestion": {"source": "phantom", "seed": 0, "resplit": False},
    "prepare_base_model": {"weights": "imagenet", "seed": 0},
    "training": {"epochs": 200, "learning_rate": 0.01, "seed": 0},
    "evaluation": {"register": False},
}
DEFAULTS = {"source": "phantom", "epochs": 200, "learning_rate": 0.01, "seed": 0}
TEXT = """# the defaults
data_ingestion:
  source: phantom # or a zip
training:
  epochs: 200
"""


def test_a_value_equal_to_the_default_leaves_params_yaml_alone() -> None:
    given = ["source=phantom", "epochs=200", "learning_rate=0.010"]
    edited = PARAMS | {"training": PARAMS["training"] | {"epochs": 50}}
    assert overrides(given, edited, DEFAULTS) == {}


def test_values_are_typed_like_those_in_params_yaml() -> None:
    given = ["source=/a b/scans.zip", "epochs=3", "learning_rate=1e-4", "register=true"]
    found = overrides(given, PARAMS, DEFAULTS)
    assert found == {
        ("data_ingestion", "source"): "/a b/scans.zip",
        ("training", "epochs"): 3,
        ("training", "learning_rate"): 1e-4,
        ("evaluation", "register"): True,
    }
    assert isinstance(found["training", "epochs"], int)


def test_a_name_that_several_stages_have_sets_them_all() -> None:
    found = overrides(["seed=7"], PARAMS, DEFAULTS)
    assert found == {(s, "seed"): 7 for s in ("data_ingestion", "prepare_base_model", "training")}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("epoch=3", "no parameter 'epoch'. Did you mean epochs?"),
        ("epochs=many", "Expected epochs to be a number; received 'many'"),
        ("source=/scans/$HOME.zip", r"Expected source without '\$', which the shell"),
        ('source=a"; echo b', "Expected source without '\"'"),
        ("resplit=perhaps", "Expected resplit to be true or false; received 'perhaps'"),
    ],
)
def test_a_misspelt_parameter_gets_one_sentence(given: str, message: str) -> None:
    with pytest.raises(StageError, match=message.replace("?", r"\?")):
        overrides([given], PARAMS, DEFAULTS)


def test_params_yaml_holds_the_values_during_the_run_only(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(TEXT)
    changes = {("data_ingestion", "source"): "s3://b/scans.zip", ("training", "epochs"): 3}
    with changed_params(changes, tmp_path):
        inside = path.read_text()
        assert yaml.safe_load(inside) == {
            "data_ingestion": {"source": "s3://b/scans.zip"},
            "training": {"epochs": 3},
        }
        assert "# or a zip" in inside
    assert path.read_text() == TEXT
    assert not restore_params(tmp_path)


def test_a_killed_run_does_not_change_params_yaml_for_good(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(TEXT)
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from steps.main import changed_params\n"
        "with changed_params({('training', 'epochs'): 3}, Path(sys.argv[1])):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = Path(__file__).resolve().parents[2]
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=root)
    assert killed.returncode == -signal.SIGKILL
    assert path.read_text() != TEXT
    assert (tmp_path / SAVED_PARAMS).is_file()
    assert restore_params(tmp_path)
    assert path.read_text() == TEXT


def test_a_second_run_in_the_checkout_is_kept_out_until_the_first_has_ended(
    tmp_path: Path,
) -> None:
    with only_run(tmp_path), pytest.raises(StageError, match="Another run"), only_run(tmp_path):
        pass
    with only_run(tmp_path):
        pass
