"""Artefacts of another layout: one sentence that says which stage to run again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scans.errors import SourceError
from scans.manifest import read_manifest, read_summary
from steps.base import TENSORS, read_base
from steps.errors import StageError
from steps.evaluation.__main__ import evaluation
from steps.evaluation.external_model import external_model
from steps.evaluation.external_report import write_external_report
from steps.gates.comparison import registered_scans
from steps.gates.external import external_gate
from steps.registry.errors import RegistryError
from steps.training.record import RECORD, read_record
from steps.training.training_scans import FILE
from tests.model.tiny import Tiny

Fields = dict[str, Any]


def changed_json(path: Path, change: Callable[[Fields], object]) -> None:
    fields = json.loads(path.read_text(encoding="utf-8"))
    change(fields)
    path.write_text(json.dumps(fields), encoding="utf-8")


@pytest.fixture
def prepared(tiny_pipeline: Tiny, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_pipeline.prepared, tmp_path / "prepared"))


@pytest.mark.parametrize(
    "change",
    [
        lambda made: made.pop("feature_blocks"),
        lambda made: made.pop("classes"),
        lambda made: made["preprocessing"].update(margin_px=8),
        lambda made: made.update(preprocessing=None),
    ],
)
def test_a_prepared_base(prepared: Path, change: Callable[[Fields], object]) -> None:
    changed_json(prepared / "base.json", change)
    with pytest.raises(StageError, match=r"base\.json .*another version of prepare_base_model"):
        read_base(prepared)


def test_a_prepared_base_that_is_cut_short(prepared: Path) -> None:
    (prepared / TENSORS).write_bytes((prepared / TENSORS).read_bytes()[:1000])
    with pytest.raises(StageError, match=rf"{TENSORS} is damaged .* dvc repro prepare_base_model"):
        read_base(prepared).tensors()
    (prepared / TENSORS).unlink()
    with pytest.raises(StageError, match=rf"{TENSORS} is missing"):
        read_base(prepared).tensors()
    (prepared / "base.bin").unlink()
    with pytest.raises(StageError, match=r"base\.bin is missing"):
        read_base(prepared)
    (prepared / "base.json").write_text("{")
    with pytest.raises(StageError, match=r"base\.json is damaged"):
        read_base(prepared)


def test_a_data_set(tiny_pipeline: Tiny, tmp_path: Path) -> None:
    for name in ("manifest.csv", "summary.json"):
        shutil.copyfile(tiny_pipeline.data / name, tmp_path / name)
    changed_json(tmp_path / "summary.json", lambda summary: summary.pop("phantom"))
    with pytest.raises(SourceError, match=r"another version of data_ingestion: it lacks phantom\."):
        read_summary(tmp_path)
    for text in ("", "[]", "7"):
        (tmp_path / "summary.json").write_text(text)
        with pytest.raises(SourceError, match=r"summary\.json .*Run data_ingestion again"):
            read_summary(tmp_path)
    head, first = (tmp_path / "manifest.csv").read_text().splitlines()[:2]
    for line in (first.replace(",1,", ",one,", 1), first[:30]):
        (tmp_path / "manifest.csv").write_text(f"{head}\n{line}\n")
        with pytest.raises(SourceError, match=r"manifest\.csv, line 2, .*Run data_ingestion again"):
            read_manifest(tmp_path)
    (tmp_path / "manifest.csv").write_text("path,label,sha256\na.png,normal,ab\n")
    with pytest.raises(SourceError, match="to start with the columns"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record.pop("series"),
        lambda record: record.update(dropout=0.5),
        lambda record: record["head"].pop("epochs"),
        lambda record: record.update(out_of_domain=None),
    ],
)
def test_a_training_record(
    tiny_pipeline: Tiny, tmp_path: Path, change: Callable[[Fields], object]
) -> None:
    shutil.copyfile(tiny_pipeline.trained / RECORD, tmp_path / RECORD)
    changed_json(tmp_path / RECORD, change)
    with pytest.raises(StageError, match=r"another version of training .* dvc repro training"):
        read_record(tmp_path)


def scored(data: Path, trained: Path, folder: Path) -> None:
    evaluation(
        data, trained, folder / "out", folder / "scores.json", protocol_repeats=0, stress=False
    )


def test_a_trained_model(tiny_pipeline: Tiny, tmp_path: Path) -> None:
    trained = Path(shutil.copytree(tiny_pipeline.trained, tmp_path / "trained"))
    card = trained / "model" / "artifacts" / "network" / "card.json"
    whole = card.read_text(encoding="utf-8")
    changed_json(card, lambda fields: fields.update(margin_px=8))
    with pytest.raises(StageError, match=r"another version of training .*margin_px"):
        scored(tiny_pipeline.data, trained, tmp_path)
    card.write_text(whole, encoding="utf-8")
    (trained / "model.keras").unlink()
    with pytest.raises(StageError, match=r"model\.keras .* Run training again"):
        scored(tiny_pipeline.data, trained, tmp_path)
    assert not (tmp_path / "scores.json").exists()


def test_a_model_for_an_external_evaluation(tiny_pipeline: Tiny, tmp_path: Path) -> None:
    model = Path(shutil.copytree(tiny_pipeline.model, tmp_path / "model"))
    with np.load(model / FILE) as arrays:
        kept = {name: arrays[name] for name in arrays.files if name != "patient"}
    np.savez_compressed(model / FILE, **kept)
    with (
        pytest.raises(StageError, match="saved by an older version of chest-ct"),
        external_model(str(model)),
    ):
        pytest.fail("it was taken")


def test_scores_of_an_older_version_leave_gaps_in_the_external_report(tmp_path: Path) -> None:
    nothing = {"value": None, "ci95": None}
    share = {"value": 0.9, "ci95": [0.8, 0.95]}
    external = {
        "name": "a", "n": 9, "groups": 9, "diseased": 5, "per_class": {"normal": 4}, "rejected": 0,
        "failed": 0, "left_out": {}, "threshold": 0.5, "stated_sensitivity": None,
        "model": {"uri": "models:/chest-ct/1", "model_digest": "ab" * 32}, "roc_auc": share,
        "sensitivity": share, "specificity": share, "balanced_accuracy": share,
        "out_of_domain": {"all": share, "diseased": share, "healthy": share}, "undecided": None,
        "in_domain": {"scans": 9} | dict.fromkeys(
            ("roc_auc", "sensitivity", "specificity", "balanced_accuracy"), share),
        "decided": None, "at_prevalence": [],
        "calibration": {"brier": share, "ece": 0.1, "mean_probability": 0.5,
                        "share_diseased": 0.5, "reliability": []},
    }  # fmt: skip
    for internal in ({"roc_auc": 0.87}, {"sensitivity": nothing}, {}, None):
        write_external_report(tmp_path, external, internal)
        text = (tmp_path / "report.html").read_text(encoding="utf-8")
        assert ("0.870" in text) == bool(internal and "roc_auc" in internal)


@pytest.mark.parametrize("value", ["", "0.93", '{"auc": 0.9}', "[1]"])
def test_an_external_tag_that_was_edited(value: str) -> None:
    with pytest.raises(RegistryError, match=r"The version's tag 'external\.iq' is not what"):
        external_gate(1, "chest-ct", {"external.iq": value}, 0.5)


@pytest.mark.parametrize("text", ["", "path,label\na.png,normal\n"])
def test_a_registered_manifest(text: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text(text)
    with pytest.raises(ValueError, match=r"sha256, label, group, split, received .*register"):
        registered_scans(tmp_path / "manifest.csv")
