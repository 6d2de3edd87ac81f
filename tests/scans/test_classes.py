from __future__ import annotations

import unicodedata
from pathlib import PurePosixPath

import pytest

from scans.classes import empty_classes, parse_class_patterns, place_files
from scans.errors import SourceError


def placed(paths: list[str], patterns: str = "") -> dict[str, tuple[str | None, str | None]]:
    files = [PurePosixPath(path) for path in paths]
    (found,) = place_files([files], parse_class_patterns(patterns))
    return {str(path): (place.label, place.split) for path, place in found.items()}


@pytest.mark.parametrize("above", ["", "Chest-CT-Scan-data/", "download/Data v2/"])
def test_the_class_is_the_folder_below_those_that_all_share(above: str) -> None:
    found = placed([f"{above}normal/1.png", f"{above}normal/2/3.png", f"{above}a b/4.png"])
    assert [label for label, _ in found.values()] == ["normal", "normal", "a b"]


@pytest.mark.parametrize("above", ["", "Data/"])
def test_split_folders_above_or_below_the_classes(above: str) -> None:
    names = {"train": "train", "valid": "validation", "Val": "validation", "TEST": "test"}
    found = placed([f"{above}{name}/{label}/1.png" for name in names for label in "xy"])
    assert list(found.values()) == [
        (label, split) for split in names.values() for label in ("x", "y")
    ]
    below = placed([f"{above}{label}/{name}/1.png" for name in names for label in "xy"])
    assert list(below.values()) == list(found.values())


def test_kaggle_names_are_merged_by_patterns() -> None:
    paths = [
        "Data/train/adenocarcinoma_left.lower.lobe_T2_N0_M0_Ib/1.png",
        "Data/test/adenocarcinoma/1.png",
        "Data/train/large.cell.carcinoma_left.hilum_T2_N2_M0_IIIa/1.png",
        "Data/test/large.cell.carcinoma/1.png",
        "Data/train/normal/1.png",
        "Data/test/normal/1.png",
    ]
    found = placed(paths, "Adenocarcinoma*=adenocarcinoma; large.cell*=large cell")
    assert [label for label, _ in found.values()] == [
        "adenocarcinoma", "adenocarcinoma", "large cell", "large cell", "normal", "normal",
    ]  # fmt: skip
    assert len({label for label, _ in placed(paths).values()}) == 5


def test_a_pattern_finds_classes_below_other_folders() -> None:
    found = placed(["site1/ill/1.png", "site2/ill/1.png", "site1/well/1.png"], "ill=ill;well=well")
    assert [label for label, _ in found.values()] == ["ill", "ill", "well"]


def test_names_are_composed_unicode() -> None:
    decomposed = unicodedata.normalize("NFD", "größe")
    assert placed([f"{decomposed}/1.png", "b/1.png"])[f"{decomposed}/1.png"] == ("größe", None)


def test_files_outside_class_folders_have_no_class() -> None:
    assert placed(["figure.png", "a/1.png", "b/1.png"])["figure.png"] == (None, None)
    assert placed(["D/train/figure.png", "D/train/a/1.png", "D/test/b/1.png"])[
        "D/train/figure.png"
    ] == (None, "train")


def test_one_folder_is_one_class() -> None:
    assert placed(["Data/normal/1.png", "Data/normal/2.png"])["Data/normal/1.png"][0] == "normal"


def test_empty_classes_are_found() -> None:
    files = [PurePosixPath(path) for path in ("D/train/a/1.png", "D/train/b/x/1.png")]
    folders = ["D", "D/train", "D/train/a", "D/train/b", "D/train/b/x", "D/train/c", "D/test/a"]
    assert empty_classes([PurePosixPath(folder) for folder in folders], files, [], "ab") == ["c"]


def test_a_pattern_that_matches_nothing_is_an_error() -> None:
    with pytest.raises(SourceError, match=r"'squamos\*' matches no folder .*: 'adeno', 'normal'"):
        placed(["adeno/1.png", "normal/1.png"], "squamos*=squamous")


@pytest.mark.parametrize("text", ["adeno*", "=x", "a=", "a=b/c", "a=..", "a=b;c"])
def test_patterns_that_are_none(text: str) -> None:
    with pytest.raises(SourceError, match="Expected class_patterns as glob=class;glob=class"):
        parse_class_patterns(text)


def test_classes_that_differ_only_in_case_are_an_error() -> None:
    with pytest.raises(SourceError, match="'Normal' and 'normal' differ only in case"):
        placed(["train/Normal/1.png", "test/normal/1.png", "train/a/1.png"])
    found = placed(["train/Normal/1.png", "test/normal/1.png", "train/a/1.png"], "normal=normal")
    assert [label for label, _ in found.values()] == ["normal", "normal", "a"]
