"""A forked program is like one that Python starts: its own output, exit code, folder and death."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fork_server import ForkServer

ENDS = {
    "import sys; print(sys.argv[1:]); print('careful', file=sys.stderr)": 0,
    "import sys; sys.exit(3)": 3,
    "import sys; sys.exit('one sentence')": 1,
    "raise ValueError('wrong')": 1,
    "import os; print(os.getcwd(), sorted(os.environ))": 0,
    "import os; os.kill(os.getpid(), 9)": -9,
    "import steps.registry": 1,
}


@pytest.mark.parametrize(("code", "expected"), ENDS.items())
def test_a_forked_file_ends_as_a_started_one(
    code: str, expected: int, fork_server: ForkServer, tmp_path: Path
) -> None:
    (tmp_path / "program.py").write_text(code)
    command = [sys.executable, "-P", str(tmp_path / "program.py"), "a", "b"]
    env = {"ONLY": "this", "LC_CTYPE": "C.UTF-8"}
    forked = fork_server.run_clean(command, env=env, cwd=str(tmp_path), timeout=300)
    started = subprocess.run(
        command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert forked.returncode == started.returncode == expected
    assert forked.stdout == started.stdout
    assert forked.stderr.splitlines()[-1:] == started.stderr.splitlines()[-1:]


def test_a_module_runs_with_the_project_and_what_it_needs_loaded(
    fork_server: ForkServer, tmp_path: Path
) -> None:
    done = fork_server.run("steps.promote", "--help", env=dict(os.environ), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Exit codes: 0 done" in done.stdout
    assert done.stderr == ""


def test_a_program_is_waited_for_and_killed(fork_server: ForkServer, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text("import time; print('began', flush=True); time.sleep(600)")
    out = tmp_path / "out"
    program = fork_server.start(
        [str(tmp_path / "program.py")], clean=True, env={}, cwd=tmp_path, out=out, err=out
    )
    assert program.wait(0.1) is None
    program.kill()
    assert program.wait() == -9
