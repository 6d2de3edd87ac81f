from __future__ import annotations

import csv
import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from scans.classes import parse_class_patterns
from scans.dataset import build_dataset
from scans.errors import SourceError
from scans.fetch import SourceFiles
from scans.fingerprints import sha256_hex
from scans.limits import Limits
from scans.manifest import ManifestRow
from scans.prepared import Dataset, data_digest, write_dataset
from scans.splits import Fractions
from scans.summary import summarise
from tests.scans.conftest import class_folders, picture


def build(folder: Path, patterns: str = "", **settings: Any) -> Dataset:
    return build_dataset(
        [SourceFiles(folder)],
        patterns=parse_class_patterns(patterns),
        **{
            "fractions": Fractions(), "seed": 0, "group_distance_bits": 40, "resplit": False,
            "limits": Limits(), **settings,
        },
    )  # fmt: skip


def error(folder: Path, patterns: str = "", **settings: Any) -> str:
    with pytest.raises(SourceError) as caught:
        build(folder, patterns, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_copies_are_counted_once_and_bytes_are_kept(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "in", {"a": 12, "b c ü": 8})
    shutil.copyfile(folder / "a/0.png", folder / "a/0 (1).png")
    shutil.copyfile(folder / "a/0.png", folder / "a/0 (2).png")
    dataset = build(folder)
    assert dataset.files == 22
    assert len(dataset.rows) == 20
    assert sum(row.copies for row in dataset.rows) == 22
    assert dataset.rejected == []
    (tmp_path / "out").mkdir()
    write_dataset(dataset, tmp_path / "out")
    with (tmp_path / "out/manifest.csv").open(encoding="utf-8", newline="") as file:
        read = list(csv.DictReader(file))
    assert ",".join(read[0]) == (
        "path,label,sha256,copies,group,split,width,height,mode,format,"
        "patient,series,position_mm,source"
    )
    assert len(read) == 20
    for row in read:
        data = (tmp_path / "out" / row["path"]).read_bytes()
        assert sha256_hex(data) == row["sha256"]
        assert (row["width"], row["height"], row["mode"], row["format"]) == ("64", "48", "L", "PNG")
    kept = [p for p in (tmp_path / "out/scans").rglob("*") if p.is_file()]
    assert len(kept) == 20
    assert (tmp_path / "out/rejected.csv").read_text() == "path,reason\n"


def test_near_duplicates_stay_together(tmp_path: Path) -> None:
    folder = class_folders(tmp_path, {"a": 30, "b": 30})
    twins = {}
    for number in range(15):
        with Image.open(folder / f"a/{number}.png") as image:
            file = io.BytesIO()
            image.save(file, "JPEG", quality=80)
        (folder / f"a/twin{number}.png").write_bytes(file.getvalue())  # a JPEG named .png
        twins[sha256_hex(file.getvalue())] = sha256_hex((folder / f"a/{number}.png").read_bytes())
    for seed in range(3):
        rows = {row.sha256: row for row in build(folder, seed=seed).rows}
        assert len(rows) == 75
        assert len({row.group for row in rows.values()}) == 60
        for twin, original in twins.items():
            assert rows[twin].format == "JPEG"
            assert rows[twin].group == rows[original].group
            assert rows[twin].split == rows[original].split
        assert {row.split for row in rows.values()} == {"train", "validation", "test"}


def test_one_seed_one_split_whatever_the_files_are_called(tmp_path: Path) -> None:
    one = build(class_folders(tmp_path / "one", {"a": 20, "b": 20}))
    renamed = tmp_path / "two"
    for row in one.rows:
        target = renamed / row.label / f"{row.sha256[::-1][:9]}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(one.origin[row.path], target)
    two = build(renamed)
    assert data_digest(one.rows) == data_digest(two.rows)
    assert data_digest(one.rows) != data_digest(build(tmp_path / "one", seed=1).rows)


def test_data_digest_is_what_it_says() -> None:
    rows = [
        ManifestRow("p", "b", "22", 1, "g", "train", 1, 1, "L", "PNG"),
        ManifestRow("q", "a", "11", 1, "g", "test", 1, 1, "L", "PNG"),
    ]
    assert data_digest(rows) == sha256_hex(b"11,a,test\n22,b,train\n")


def test_unusable_files_are_listed_with_their_reasons(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "in", {"a": 5, "b": 5})
    (folder / "a/notes.txt").write_text("hello")
    (folder / "a/empty.png").write_bytes(b"")
    (folder / "b/cut.png").write_bytes(picture(99)[:60])
    (folder / "README.png").write_bytes(picture(98))
    (folder / "b/gone.png").symlink_to(tmp_path / "nowhere")
    (folder / "a/linked").symlink_to(folder / "b")
    os.mkfifo(folder / "b/pipe")
    (folder / os.fsdecode(b"b/\xff.png")).write_bytes(picture(97))
    for system in (".DS_Store", "Thumbs.db", "__MACOSX/a.png", ".hidden/a.png"):
        (folder / system).parent.mkdir(exist_ok=True)
        (folder / system).write_bytes(b"\0")
    dataset = build(folder)
    reasons = {os.fsencode(r.path): r.reason.partition(";")[0] for r in dataset.rejected}
    assert reasons == {
        b"README.png": "lies in no class folder",
        b"a/empty.png": "the file is empty",
        b"a/notes.txt": (
            "Expected a chest CT slice as PNG, JPEG, BMP, TIFF, WebP or DICOM, "
            "received 5 bytes of text"
        ),
        b"b/cut.png": (
            "Expected a whole PNG picture, received 60 bytes of one that is damaged, cut short "
            "or of a rare kind"
        ),
        b"b/gone.png": "a link to a file that does not exist",
        b"b/pipe": "not a regular file",
        b"b/\xff.png": "its name is not valid UTF-8",
        b"a/linked": "a link to a folder, which is not followed",
    }
    assert len(dataset.rows) == 10
    assert dataset.files == 18
    (tmp_path / "out").mkdir()
    write_dataset(dataset, tmp_path / "out")
    text = (tmp_path / "out/rejected.csv").read_text()
    assert "b/\\udcff.png,its name is not valid UTF-8; rename it" in text.splitlines()


def test_one_image_in_two_classes_is_rejected_in_both(tmp_path: Path) -> None:
    folder = class_folders(tmp_path, {"a": 6, "b": 6})
    shutil.copyfile(folder / "a/0.png", folder / "b/x.png")
    dataset = build(folder)
    assert [(str(r.path), r.reason) for r in dataset.rejected] == [
        (name, "the same image lies in the classes 'a', 'b'; keep it in one")
        for name in ("a/0.png", "b/x.png")
    ]
    assert len(dataset.rows) == 11


def kaggle(folder: Path) -> Path:
    for seed, (split, label) in enumerate(
        (split, label) for split in ("train", "valid", "test") for label in ("a_T2", "normal")
    ):
        name = "a" if (split, label) == ("test", "a_T2") else label
        class_folders(folder / "Data" / split, {name: 4}, first_seed=10 * seed)
    return folder


def test_official_splits_are_respected(tmp_path: Path) -> None:
    dataset = build(kaggle(tmp_path), "a*=a")
    assert dataset.official_splits
    assert dataset.crossing_groups == []
    for row in dataset.rows:
        folder = dataset.origin[row.path].relative_to(tmp_path).parts[1]
        assert row.split == {"train": "train", "valid": "validation", "test": "test"}[folder]
    anew = build(kaggle(tmp_path / "anew"), "a*=a", resplit=True)
    assert not anew.official_splits
    assert {r.sha256: r.split for r in anew.rows} != {r.sha256: r.split for r in dataset.rows}


def test_images_found_in_two_official_splits_stay_on_the_training_side(tmp_path: Path) -> None:
    folder = kaggle(tmp_path)
    shutil.copyfile(folder / "Data/train/normal/0.png", folder / "Data/test/normal/copy.png")
    with Image.open(folder / "Data/valid/normal/1.png") as image:
        image.save(folder / "Data/test/normal/again.jpg", quality=80)
    dataset = build(folder, "a*=a")
    assert len(dataset.crossing_groups) == 2
    crossing = {row.sha256: row for row in dataset.rows if row.group in dataset.crossing_groups}
    assert sorted(row.split for row in crossing.values()) == ["train", "validation", "validation"]
    copied = sha256_hex((folder / "Data/train/normal/0.png").read_bytes())
    assert (crossing[copied].split, crossing[copied].copies) == ("train", 2)


def test_scans_beside_the_official_splits_are_an_error(tmp_path: Path) -> None:
    folder = kaggle(tmp_path)
    class_folders(folder / "Data/more", {"normal": 2}, first_seed=90)
    assert "Data/more/normal/0.png, do not. Move them, or set resplit" in error(folder, "a*=a")


def test_empty_and_missing_classes(tmp_path: Path) -> None:
    assert "Found: 0 files, no readable scan" in error(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a/notes.txt").write_text("hello")
    message = error(tmp_path)
    assert "Found: 1 files, no readable scan" in message
    assert "notes.txt: Expected a chest CT slice" in message
    class_folders(tmp_path, {"b": 3}, first_seed=0)
    assert "'b' (3 scans)" in error(tmp_path)
    class_folders(tmp_path, {"c": 3}, first_seed=10)
    message = error(tmp_path)
    assert "The class folder 'a' has no readable scan" in message
    assert "'b' (3 scans), 'c' (3 scans)" in message
    (tmp_path / "a/notes.txt").unlink()
    assert "The class folder 'a' has no readable scan" in error(tmp_path)
    (tmp_path / "a").rmdir()
    (tmp_path / "linked").symlink_to(tmp_path / "b")
    message = error(tmp_path)
    assert "The class folder 'linked' has no readable scan" in message
    assert "a link to a folder, which is not followed" in message
    (tmp_path / "linked").unlink()
    assert len(build(tmp_path).rows) == 6


def test_only_one_class(tmp_path: Path) -> None:
    class_folders(tmp_path / "Data", {"normal": 3})
    assert "at least two class folders with scans. Found: 'normal' (3 scans)" in error(tmp_path)


@pytest.mark.parametrize("bits", [-1, 257])
def test_distances_that_are_none(tmp_path: Path, bits: int) -> None:
    assert f"from 0 to 256. Received: {bits}" in error(tmp_path, group_distance_bits=bits)


def test_limits_hold_for_folders(tmp_path: Path) -> None:
    class_folders(tmp_path, {"a": 3, "b": 3})
    assert "max_files=5" in error(tmp_path, limits=Limits(max_files=5))
    assert "max_file_bytes=100" in error(tmp_path, limits=Limits(max_file_bytes=100))
    assert "max_total_bytes=5,000" in error(tmp_path, limits=Limits(max_total_bytes=5000))


def test_names_that_clash_are_kept_apart(tmp_path: Path) -> None:
    for number, site in enumerate(("site1", "site2")):
        class_folders(tmp_path / site, {"ill": 5, "well": 5}, first_seed=20 * number)
    dataset = build(tmp_path, "ill=ill;well=well")
    assert len({row.path for row in dataset.rows}) == len(dataset.rows) == 20


def test_folders_whose_names_are_not_utf8(tmp_path: Path) -> None:
    """The source's own folder may be called anything; a folder in it costs its files alone."""
    given = tmp_path / os.fsdecode(b"given \xff")
    class_folders(given, {"a": 5, "b": 5})
    for folder in (b"a/\xe9t\xe9", b"\xff class/deep"):
        (given / os.fsdecode(folder)).mkdir(parents=True)
        (given / os.fsdecode(folder) / "x.png").write_bytes(picture(90))
    dataset = build(given)
    assert {os.fsencode(r.path): r.reason for r in dataset.rejected} == {
        b"a/\xe9t\xe9/x.png": "its folder's name is not valid UTF-8; rename it",
        b"\xff class/deep/x.png": "its folder's name is not valid UTF-8; rename it",
    }
    assert (len(dataset.rows), dataset.files) == (10, 12)
    (tmp_path / "out").mkdir()
    write_dataset(dataset, tmp_path / "out")
    summary = summarise(dataset, str(given), ["folder"], 40)
    assert summary["source"].endswith("given \\udcff")
    json.dumps(summary, ensure_ascii=False).encode()
