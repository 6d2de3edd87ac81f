"""The code that a model carries: its own, under its own name, part of its identity."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml

from model.artefact import Card, Head, model_digest
from model.packaging import NOT_SHIPPED, PACKAGE, save_pyfunc
from tests.model.small_model import phantom_png

ROOT = Path(__file__).parents[2]
NETWORK = Path("artifacts", "network")

# The caller's program: a module `model` of its own, imported before or after ours is loaded.
CALLER = {
    "before": "import model\nmine = mlflow.pyfunc.load_model(sys.argv[1])\n",
    "after": "mine = mlflow.pyfunc.load_model(sys.argv[1])\nimport model\n",
}
REST = """
assert model.ANSWER == 42, model
assert model.__file__ == str(pathlib.Path("model.py").resolve()), model.__file__
data = pathlib.Path(sys.argv[2]).read_bytes()
rows = mine.predict(pd.DataFrame({"image": [data]}))
assert rows["error"][0] is None, rows["error"][0]
print(rows["p_normal"][0])
"""


@pytest.fixture(scope="module")
def model(small_model: Path) -> Any:
    return mlflow.pyfunc.load_model(str(small_model))


@pytest.fixture(scope="module")
def scans() -> list[bytes]:
    return [phantom_png(seed) for seed in range(3)]


def digest_of(saved: Path) -> str:
    return model_digest(saved / "loader.py", saved / "code" / PACKAGE, saved / NETWORK)


def digest_in(saved: Path) -> str:
    digest: str = yaml.safe_load((saved / "MLmodel").read_text())["metadata"]["model_digest"]
    return digest


def with_constant_probability(saved: Path, folder: Path) -> Path:
    """Copy a model and change its code by hand: every probability of a label is 0.125."""
    shutil.copytree(saved, folder)
    scorer = folder / "code" / PACKAGE / "scorer.py"
    text = scorer.read_text()
    assert "float(row_p[index])" in text
    scorer.write_text(text.replace("float(row_p[index])", "0.125"))
    return folder


@pytest.mark.parametrize("order", ["before", "after"])
def test_a_callers_own_module_named_model_is_neither_in_the_way_nor_hidden(
    small_model: Path, model: Any, scans: list[bytes], order: str, tmp_path: Path
) -> None:
    (tmp_path / "model.py").write_text("ANSWER = 42\n")
    (tmp_path / "scan.png").write_bytes(scans[0])
    start = "import pathlib, sys\nimport mlflow.pyfunc, pandas as pd\n"
    (tmp_path / "caller.py").write_text(start + CALLER[order] + REST)
    done = subprocess.run(
        [sys.executable, "caller.py", str(small_model), "scan.png"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    expected = model.predict(pd.DataFrame({"image": scans[:1]}))["p_normal"][0]
    assert float(done.stdout.splitlines()[-1]) == pytest.approx(expected, abs=1e-6)


def test_two_versions_of_the_code_answer_side_by_side(
    small_model: Path, model: Any, scans: list[bytes], tmp_path: Path
) -> None:
    images = pd.DataFrame({"image": scans[:3]})
    expected = model.predict(images)
    changed = mlflow.pyfunc.load_model(
        str(with_constant_probability(small_model, tmp_path / "changed"))
    )
    assert changed.predict(images)["probability"].tolist() == [0.125] * 3
    pd.testing.assert_frame_equal(model.predict(images), expected)
    assert changed.predict(images)["p_normal"].tolist() == expected["p_normal"].tolist()


def test_code_changed_in_place_is_what_the_next_load_runs(
    small_model: Path, scans: list[bytes], tmp_path: Path
) -> None:
    images = pd.DataFrame({"image": scans[:1]})
    folder = tmp_path / "model"
    shutil.copytree(small_model, folder)
    before = mlflow.pyfunc.load_model(str(folder)).predict(images)["probability"][0]
    assert before != 0.125
    scorer = folder / "code" / PACKAGE / "scorer.py"
    scorer.write_text(scorer.read_text().replace("float(row_p[index])", "0.125"))
    assert mlflow.pyfunc.load_model(str(folder)).predict(images)["probability"][0] == 0.125


def test_a_model_without_its_code_is_refused_naming_the_folder(
    small_model: Path, tmp_path: Path
) -> None:
    shutil.copytree(small_model, tmp_path / "bare")
    shutil.rmtree(tmp_path / "bare" / "code" / PACKAGE)
    with pytest.raises(mlflow.MlflowException, match=r"Expected the model's code in .*bare"):
        mlflow.pyfunc.load_model(str(tmp_path / "bare"))


def test_the_shipped_package_imports_only_itself(small_model: Path) -> None:
    shipped = small_model / "code" / PACKAGE
    names = {path.relative_to(shipped).as_posix() for path in shipped.rglob("*.py")}
    own = {p.relative_to(ROOT / "model").as_posix() for p in (ROOT / "model").rglob("*.py")}
    assert names == own - NOT_SHIPPED
    assert own >= NOT_SHIPPED
    left_out = {Path(name).stem for name in NOT_SHIPPED}
    for path in shipped.rglob("*.py"):
        text = path.read_text()
        for line in (line.strip() for line in text.splitlines()):
            assert not line.startswith(("from model", "import model")), (path, line)
            if line.startswith("from ."):
                assert line.split()[1].lstrip(".") not in left_out, (path, line)


def test_the_digest_is_that_of_the_saved_files(small_model: Path, model: Any) -> None:
    assert digest_in(small_model) == digest_of(small_model)
    assert model.metadata.metadata["model_digest"] == digest_in(small_model)


def test_saving_the_same_model_again_does_not_change_its_digest(
    small_model: Path, tmp_path: Path
) -> None:
    network = tmp_path / "network"
    shutil.copytree(small_model / NETWORK, network)
    (tmp_path / "elsewhere").mkdir()
    for number in (1, 2):
        saved = tmp_path / "elsewhere" / str(number)
        save_pyfunc(saved, network, Card.read(network), "bm8gc2Nhbg==")
        assert digest_in(saved) == digest_in(small_model)
    entries = [
        yaml.safe_load((tmp_path / "elsewhere" / n / "MLmodel").read_text()) for n in ("1", "2")
    ]
    assert entries[0]["model_uuid"] != entries[1]["model_uuid"]


def change_head(saved: Path) -> None:
    head = Head.read(saved / NETWORK)
    Head(head.kernel, head.bias + np.float32(1e-3)).write(saved / NETWORK)


def change_threshold(saved: Path) -> None:
    card = (saved / NETWORK / "card.json").read_text()
    (saved / NETWORK / "card.json").write_text(card.replace('"threshold": ', '"threshold": 1'))


def change_class_name(saved: Path) -> None:
    card = (saved / NETWORK / "card.json").read_text()
    (saved / NETWORK / "card.json").write_text(card.replace("adenocarcinoma", "other"))


def change_network(saved: Path) -> None:
    weights = saved / NETWORK / "network.bin"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")


def change_code(saved: Path) -> None:
    with (saved / "code" / PACKAGE / "decision.py").open("a") as file:
        file.write("\n")


def change_loader(saved: Path) -> None:
    with (saved / "loader.py").open("a") as file:
        file.write("\n")


def change_requirements(saved: Path) -> None:
    with (saved / "requirements.txt").open("a") as file:
        file.write("\n")


def compile_code(saved: Path) -> None:
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(saved / "code")], check=True)


@pytest.mark.parametrize(
    ("change", "other"),
    [
        (change_head, True),
        (change_threshold, True),
        (change_class_name, True),
        (change_network, True),
        (change_code, True),
        (change_loader, True),
        (change_requirements, False),
        (compile_code, False),
    ],
)
def test_the_digest_changes_with_what_decides_an_answer_and_with_nothing_else(
    small_model: Path, change: Callable[[Path], None], other: bool, tmp_path: Path
) -> None:
    saved = tmp_path / "model"
    shutil.copytree(small_model, saved)
    change(saved)
    assert (digest_of(saved) != digest_in(small_model)) == other
