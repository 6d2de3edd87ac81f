"""Masks and boxes say which slices show a lesion."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from scans.phantom.patients import write_phantom_patients
from steps.errors import StageError
from steps.evaluation.lesions import marked, masked

BOX = "<annotation><object><bndbox><xmin>1</xmin></bndbox></object></annotation>"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    write_phantom_patients(folder / "files", folder / "masks", patients=6, seed=5)
    return folder


def test_phantoms_masks_are_found_by_their_files_names(drawn: Path) -> None:
    paths = sorted((drawn / "files").rglob("*.dcm"))
    shown = marked(paths, drawn / "masks")
    assert shown.tolist() == [path.parents[2].name != "normal" for path in paths]
    assert 0 < shown.sum() < len(paths)


def test_boxes_are_found_by_sop_instance_uid_in_any_folder(drawn: Path, tmp_path: Path) -> None:
    paths = sorted((drawn / "files").rglob("*.dcm"))[:3]
    uids = [dcmread(path).SOPInstanceUID for path in paths]
    (tmp_path / "A0001").mkdir()
    (tmp_path / "A0001" / f"{uids[1]}.xml").write_text(BOX)
    (tmp_path / "A0001" / f"{uids[2]}.xml").write_text("<annotation/>")
    assert marked(paths, tmp_path).tolist() == [False, True, False]


def test_an_empty_mask_marks_nothing_and_a_name_of_two_scans_is_no_name(tmp_path: Path) -> None:
    for place in ("one", "two", "masks"):
        (tmp_path / place).mkdir()
    paths = [tmp_path / "one" / "1.png", tmp_path / "two" / "1.png", tmp_path / "two" / "2.png",
             tmp_path / "two" / "3.png"]  # fmt: skip
    for path in paths:
        Image.new("L", (8, 8), 9).save(path)
    for name, value in (("1", 255), ("2", 0), ("3", 255)):
        Image.fromarray(np.full((8, 8), value, np.uint8)).save(tmp_path / "masks" / f"{name}.png")
    assert marked(paths, tmp_path / "masks").tolist() == [False, False, False, True]


def test_masks_of_ingestion_are_known_by_digest(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "ab.png").touch()
    assert masked(tmp_path, ["aa", "ab"]).tolist() == [False, True]
    assert masked(tmp_path / "nowhere", ["ab"]).tolist() == [False]


def test_mistakes_get_one_sentence(drawn: Path, tmp_path: Path) -> None:
    paths = sorted((drawn / "files").rglob("*.dcm"))[:2]
    with pytest.raises(StageError, match="Expected lesions to be a folder"):
        marked(paths, tmp_path / "gone")
    with pytest.raises(StageError, match="None of the 0 masks"):
        marked(paths, tmp_path)
    (tmp_path / "other.xml").write_text(BOX)
    with pytest.raises(StageError, match="None of the 1 masks and boxes"):
        marked(paths, tmp_path)
    (tmp_path / "other.png").touch()
    with pytest.raises(StageError, match="two masks or boxes called other"):
        marked(paths, tmp_path)
    (tmp_path / "other.png").unlink()
    (tmp_path / f"{paths[0].stem}.xml").write_text("<annotation>")
    with pytest.raises(StageError, match="cannot be read as a mask or as boxes"):
        marked(paths, tmp_path)
