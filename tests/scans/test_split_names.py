"""Splits that name their classes differently, as the well-known four-class set does."""

from __future__ import annotations

from pathlib import Path

import pytest

from scans.classes import parse_class_patterns
from scans.dataset import build_dataset
from scans.errors import SourceError
from scans.fetch import SourceFiles
from scans.limits import Limits
from scans.prepared import Dataset
from scans.splits import Fractions
from scans.summary import report, summarise
from tests.scans.conftest import class_folders

STAGED = (
    "adenocarcinoma_left.lower.lobe_T2_N0_M0_Ib", "large.cell.carcinoma_left.hilum_T2_N2_M0_IIIa",
    "normal", "squamous.cell.carcinoma_left.hilum_T1_N2_M0_IIIa",
)  # fmt: skip
PLAIN = ("adenocarcinoma", "large.cell.carcinoma", "normal", "squamous.cell.carcinoma")
LINE = (
    "adenocarcinoma*=adenocarcinoma;large.cell.carcinoma*=large.cell.carcinoma;"
    "squamous.cell.carcinoma*=squamous.cell.carcinoma"
)


def kaggle(folder: Path) -> Path:
    for seed, (split, names) in enumerate(
        {"train": STAGED, "valid": STAGED, "test": PLAIN}.items()
    ):
        class_folders(folder / "Data" / split, dict.fromkeys(names, 4), first_seed=100 * seed)
    return folder


def build(folder: Path, patterns: str = "", *, resplit: bool = False) -> Dataset:
    return build_dataset(
        [SourceFiles(folder)], patterns=parse_class_patterns(patterns), fractions=Fractions(),
        seed=0, group_distance_bits=0, resplit=resplit, limits=Limits(),
    )  # fmt: skip


def test_the_line_that_fits_is_printed_and_fits(tmp_path: Path) -> None:
    folder = kaggle(tmp_path)
    with pytest.raises(SourceError, match="name their classes differently: train has") as caught:
        build(folder)
    message = str(caught.value)
    assert message.endswith(f"Set class_patterns: {LINE}")
    assert "test has 'adenocarcinoma', 'large.cell.carcinoma', 'squamous" in message
    assert "'normal'" not in message
    assert "resplit" not in message
    dataset = build(folder, LINE)
    assert {row.label for row in dataset.rows} == set(PLAIN)
    assert dataset.official_splits
    assert dataset.warnings == []


def test_splitting_anew_warns_of_the_seven_classes(tmp_path: Path) -> None:
    dataset = build(kaggle(tmp_path), resplit=True)
    assert len({row.label for row in dataset.rows}) == 7
    (warning,) = dataset.warnings
    assert warning.endswith(LINE)
    assert f"Warning: {warning}" in report(summarise(dataset, "x", ["folder"], 0))
    assert build(tmp_path, LINE, resplit=True).warnings == []


def test_the_line_keeps_the_patterns_there_are(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="differently") as caught:
        build(kaggle(tmp_path), "large*=large;squamous*=squamous")
    line = str(caught.value).partition("class_patterns: ")[2]
    assert line == "large*=large;squamous*=squamous;adenocarcinoma*=adenocarcinoma"
    assert len({row.label for row in build(tmp_path, line).rows}) == 4


def test_names_that_share_no_beginning(tmp_path: Path) -> None:
    class_folders(tmp_path / "train", {"cancer": 4, "normal": 4})
    class_folders(tmp_path / "test", {"malignant": 4, "normal": 4, "normality": 2}, first_seed=50)
    with pytest.raises(SourceError, match="Rename the folders or set class_patterns") as caught:
        build(tmp_path)
    assert "train has 'cancer'; test has 'malignant', 'normality'" in str(caught.value)


def test_characters_of_globs_in_names(tmp_path: Path) -> None:
    class_folders(tmp_path / "train", {"a [1]_T2": 4, "normal": 4})
    class_folders(tmp_path / "test", {"a [1]": 4, "normal": 4}, first_seed=50)
    with pytest.raises(SourceError, match="differently") as caught:
        build(tmp_path)
    line = str(caught.value).partition("class_patterns: ")[2]
    assert {row.label for row in build(tmp_path, line).rows} == {"a [1]", "normal"}
