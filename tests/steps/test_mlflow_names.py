"""Names that people chose become names that MLflow takes, and stay apart."""

from __future__ import annotations

import itertools
from pathlib import Path

import mlflow
import pytest

from steps.errors import StageError
from steps.mlflow_names import class_tags, mlflow_name, numbers
from steps.registry.register import register
from steps.settings import overrides

CLASSES = [
    "normal", "Bengin cases (IQ-OTH)", "Malignant, cases", "'healthy'", "a:b", "a_b", "a b", "a.b",
    "a/b", "a::b", "a:3a:b", "..", "/", "肺癌", "x" * 255, "x" * 254 + "y", "(" * 200, "#1", "50 %",
]  # fmt: skip


def scores() -> dict[str, object]:
    recalls = {name: {"recall": i / 100} for i, name in enumerate(CLASSES)}
    return {"accuracy": 0.5, "phantom": True, "intervals": [1.0], "per_class": recalls}


def test_names_that_differ_stay_different() -> None:
    names = [name for name, _ in numbers(scores())]
    assert len(names) == len(set(names)) == len(CLASSES) + 1
    for left, right in itertools.combinations(CLASSES, 2):
        assert mlflow_name("class", left) != mlflow_name("class", right)


def test_names_that_mlflow_takes_stay_as_they_are() -> None:
    assert mlflow_name("stress", "brightness x 0.6", "n") == "stress.brightness x 0.6.n"
    assert mlflow_name("per_class", "a (b)", "f1") == "per_class.a :28:b:29:.f1"


def test_mlflow_takes_metrics_tags_and_versions_of_any_class(
    local_registry: str, textures: Path, scans: Path
) -> None:
    expected = dict(numbers(scores()))
    with mlflow.start_run() as run:
        mlflow.set_tags(class_tags(CLASSES))
        mlflow.log_metrics(expected)
        manifest = scans / "manifest.csv"
        register(textures, name="any class", scores=scores(), manifest=manifest)
    stored = mlflow.get_run(run.info.run_id).data
    assert stored.metrics == pytest.approx(expected)
    assert {v for k, v in stored.tags.items() if k.startswith("class.")} == set(CLASSES)


@pytest.mark.parametrize("name", ["a/b", "a:b", "", " "])
def test_a_model_name_that_the_registry_refuses_is_refused_before_the_run(
    name: str, tmp_path: Path
) -> None:
    with pytest.raises(StageError, match="Expected registered_model_name to be a name without /"):
        overrides([("registered_model_name", name)], tmp_path / "params.yaml")
