"""Scratch folders of jobs that were killed are removed by the next one; those in use are not."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from batch.scratch import UNLOCKED_MAX_AGE_S, remove_stale_scratch, scratch_folder
from tests.batch.conftest import ROOT

HOLD = """
import sys
from batch.scratch import scratch_folder

with scratch_folder("model") as folder:
    (folder / "file").write_text("of a model")
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the temporary folder one of this test's own."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def start() -> tuple[subprocess.Popen[str], Path]:
    """Start a process that uses a scratch folder until it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.stdout
    return process, Path(process.stdout.readline().strip())


def test_a_killed_job_leaves_its_folder_until_the_next_job(temporary_folder: Path) -> None:
    process, folder = start()
    other, in_use = start()
    process.kill()
    process.communicate()
    assert (folder / "file").exists()
    with scratch_folder("series") as mine:
        assert not folder.exists()
        assert (in_use / "file").exists()
        assert remove_stale_scratch() == 0
        assert mine.exists()
    other.communicate("")
    assert list(temporary_folder.iterdir()) == []


def test_folders_of_earlier_releases_go_when_they_are_old(temporary_folder: Path) -> None:
    names = (
        "batch-model-ab12_x9",
        "batch-model-new",
        "batch-jobs-of-somebody",
        "batch-model.txt",
    )
    for name in names:
        (temporary_folder / name).mkdir()
        (temporary_folder / name / "MLmodel").write_text("")
    for name in names:
        if "new" not in name:
            long_ago = (temporary_folder / name).stat().st_mtime - UNLOCKED_MAX_AGE_S - 60
            os.utime(temporary_folder / name, (long_ago, long_ago))
    (temporary_folder / "batch-model-link").symlink_to(temporary_folder / names[2])
    assert remove_stale_scratch() == 1
    assert {path.name for path in temporary_folder.iterdir()} == {*names[1:], "batch-model-link"}
