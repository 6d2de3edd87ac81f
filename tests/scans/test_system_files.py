"""Files of the operating system are passed over by one rule, here and in the batch job."""

from __future__ import annotations

from pathlib import Path

from batch.source.selection import SYSTEM_NAMES as BATCH_NAMES
from batch.source.selection import is_system_file
from scans.dataset import build_dataset
from scans.fetch import SourceFiles
from scans.limits import Limits
from scans.listing import SYSTEM_NAMES, list_files
from scans.splits import Fractions
from scans.summary import report, summarise
from tests.scans.conftest import class_folders

SYSTEM = (
    "a/.DS_Store", "Thumbs.db", "b/THUMBS.DB", "__MACOSX/a/._1.png", "a/._x.png", ".git/objects/1",
    "desktop.ini", "$RECYCLE.BIN/x.png", "a/.hidden/deep/x.png",
)  # fmt: skip
OTHERS = ("a/notes.txt", "a/thumbs.db.png", "a/x.DS_Store", "a/_MACOSX.png", "b/no extension")


def test_they_are_counted_and_no_file_besides(tmp_path: Path) -> None:
    class_folders(tmp_path, {"a": 5, "b": 5})
    for name in (*SYSTEM, *OTHERS):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    dataset = build_dataset(
        [SourceFiles(tmp_path)], patterns=[], fractions=Fractions(), seed=0,
        group_distance_bits=0, resplit=False, limits=Limits(),
    )  # fmt: skip
    assert dataset.passed_over == len(SYSTEM)
    assert {str(r.path) for r in dataset.rejected} == set(OTHERS)
    assert dataset.files == 10 + len(OTHERS)
    assert "9 hidden and system files passed over" in report(summarise(dataset, "x", ["folder"], 0))


def test_the_batch_job_passes_over_the_same_files(tmp_path: Path) -> None:
    assert BATCH_NAMES == SYSTEM_NAMES
    for name in (*SYSTEM, *OTHERS):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    listed = {str(path) for path in list_files(tmp_path, Limits()).files}
    assert listed == {name for name in (*SYSTEM, *OTHERS) if not is_system_file(name)}
