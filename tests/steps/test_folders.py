"""Output folders appear whole or not at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from steps.folders import replaced_folder


def test_a_failure_leaves_the_old_folder(tmp_path: Path) -> None:
    output = tmp_path / "stage"
    output.mkdir()
    (output / "old").write_text("whole")
    with pytest.raises(OSError, match="full"), replaced_folder(output) as folder:
        (folder / "new").write_text("half")
        raise OSError("full")
    assert [p.name for p in tmp_path.iterdir()] == ["stage"]
    assert (output / "old").read_text() == "whole"


def test_success_replaces_the_old_folder_but_for_what_is_kept(tmp_path: Path) -> None:
    output = tmp_path / "stage"
    output.mkdir()
    for name in ("old", "cache"):
        (output / name).write_text(name)
    with replaced_folder(output, keep=("cache",)) as folder:
        (folder / "new").write_text("new")
    assert sorted(p.name for p in output.iterdir()) == ["cache", "new"]


def test_what_a_killed_run_left_is_not_taken_for_whole(tmp_path: Path) -> None:
    output = tmp_path / "stage"
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from steps.folders import replaced_folder\n"
        "with replaced_folder(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'half').write_text('half'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = Path(__file__).resolve().parents[2]
    killed = subprocess.run([sys.executable, "-c", code, str(output)], cwd=root, env=os.environ)
    assert killed.returncode == -signal.SIGKILL
    assert not output.exists()
    with replaced_folder(output) as folder:
        (folder / "whole").write_text("whole")
    assert [p.name for p in tmp_path.iterdir()] == ["stage"]
    assert [p.name for p in output.iterdir()] == ["whole"]
