"""Names that come from elsewhere get local paths, one each."""

from __future__ import annotations

import random
from pathlib import Path, PurePosixPath

import pytest

from scans.local_names import local_paths

ODD = [
    "a//x.png", "a/x.png", "./a/x.png", "a/./x.png", "a/../x.png", "../a/x.png", "/a/x.png",
    "a/x.png/", "same", "same/x.png", "same/x.png/y", "", "/", "..", "a\0b/x.png", "A/X.PNG",
    "a/" + "n" * 300 + ".png", "a/" + "n" * 299 + "m.png", "ü" * 200 + "/x.png",
    "a/" + "b/" * 900 + "x.png", "a/" + "b/" * 901 + "x.png", "C: ct/x.png", "a\\b.png",
    "e\u0301/x.png", "\u00e9/x.png", "a/x~y.png", "é" * 255 + ".png",
]  # fmt: skip


def test_plain_names_keep_their_paths() -> None:
    plain = ["a/1.png", "a/b c/größe 2.PNG", "top", "C: ct/x", "n" * 255, "a\\b", "a/.hidden"]
    assert local_paths(plain) == [PurePosixPath(name) for name in plain]


@pytest.mark.parametrize("seed", range(4))
def test_every_name_gets_a_path_of_its_own_that_can_be_written(tmp_path: Path, seed: int) -> None:
    names = random.Random(seed).sample(ODD, len(ODD))
    paths = local_paths(names)
    assert len({str(path).casefold() for path in paths}) == len(names)
    for name, path in zip(names, paths, strict=True):
        assert not path.is_absolute()
        assert ".." not in path.parts
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("x") as opened:
            opened.write(repr(name))
    for name, path in zip(names, paths, strict=True):
        assert (tmp_path / path).read_text() == repr(name)
    by_name = dict(zip(names, paths, strict=True))
    assert by_name["a/x.png"] == PurePosixPath("a/x.png") or by_name["A/X.PNG"] == PurePosixPath(
        "A/X.PNG"
    )
    assert by_name["same/x.png/y"] == PurePosixPath("same/x.png/y")


def test_the_class_folder_and_the_suffix_stay() -> None:
    for path in local_paths(["ill//x.png", "ill/" + "b/" * 900 + "x.dcm", f"ill/{'n' * 300}.png"]):
        assert path.parts[0] == "ill"
        assert path.suffix in (".png", ".dcm")


def test_one_list_of_names_one_list_of_paths() -> None:
    assert local_paths(ODD) == local_paths(ODD)
    assert local_paths([]) == []
