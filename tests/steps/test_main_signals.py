"""A run that is told to end takes DVC and the stage with it, and leaves the parameters alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from steps.main import ROOT

# What `steps.main` does around DVC, on a pipeline of one stage.
MAIN = """
import os, sys
from pathlib import Path
from steps.main import only_run, repro, signals_end_the_run
from steps.settings import overridden
root = Path(sys.argv[1])
with signals_end_the_run(), only_run(root), overridden({"training": {"epochs": 3}}, root):
    repro(root, os.environ)
"""
STAGE = """
import os, sys, time
print(os.getpid(), file=open("pid", "w"), flush=True)
os.rename("pid", "stage.pid")
try:
    time.sleep(60)
except KeyboardInterrupt:
    open("interrupted", "w").close()
    raise
"""


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} never came"
        time.sleep(0.05)


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_stage_and_dvc(sent: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("training:\n  epochs: 50\n")
    (tmp_path / "stage.py").write_text(STAGE)
    (tmp_path / "dvc.yaml").write_text(f"stages:\n  one:\n    cmd: {sys.executable} stage.py\n")
    subprocess.run(
        [sys.executable, "-m", "dvc", "init", "--no-scm", "--quiet"], cwd=tmp_path, check=True
    )
    process = subprocess.Popen([sys.executable, "-c", MAIN, str(tmp_path)], cwd=ROOT)
    wait_for(tmp_path / "stage.pid")
    stage = int((tmp_path / "stage.pid").read_text())
    process.send_signal(sent)
    exit_code = process.wait(60)
    assert exit_code == (128 + sent if sent != signal.SIGINT else -sent)
    assert (tmp_path / "interrupted").exists(), "the stage was asked, as by Ctrl-C, not killed"
    assert not runs(stage)
    assert (tmp_path / "params.yaml").read_text() == "training:\n  epochs: 50\n"
    assert (tmp_path / "overrides.yaml").read_bytes() == (ROOT / "overrides.yaml").read_bytes()
    assert not list((tmp_path / ".dvc" / "tmp").glob("overrides*"))
