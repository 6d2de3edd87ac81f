"""What worker processes share is made once, and what was started is stopped at the end."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from tests.session import Shared, new_shared

ROOT = Path(__file__).resolve().parents[1]
MAKE = """
import sys
from pathlib import Path
from tests.session import Shared

def make(folder):
    print("made")
    (folder / "file").write_text("whole")

print((Shared(Path(sys.argv[1])).once("thing", make) / "file").read_text())
"""


def test_the_tests_of_a_file_run_in_one_worker_and_files_in_both() -> None:
    files = ("tests/test_decisions.py", "tests/test_layers.py")
    command = [sys.executable, "-m", "pytest", "-v", "-n2", *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    workers = defaultdict(set)
    for worker, file in re.findall(r"\[(gw\d)\].* PASSED (tests/\w+\.py)::", done.stdout):
        workers[file].add(worker)
    assert sorted(workers) == sorted(files)
    assert [len(used) for used in workers.values()] == [1, 1]


def test_of_several_processes_one_makes_a_folder_and_all_see_it_whole(tmp_path: Path) -> None:
    started = [
        subprocess.Popen([sys.executable, "-c", MAKE, tmp_path], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    said = [process.communicate(timeout=120)[0].split() for process in started]
    assert sorted(said) == [["made", "whole"], ["whole"], ["whole"]]


def test_what_failed_is_made_again_from_an_empty_folder(tmp_path: Path) -> None:
    shared = Shared(tmp_path)

    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise ValueError("half-way")

    with pytest.raises(ValueError, match="half-way"):
        shared.once("thing", fail)
    made = shared.once("thing", lambda folder: (folder / "whole").touch())
    assert [file.name for file in made.iterdir()] == ["whole"]


def test_processes_left_running_are_stopped_and_the_folder_removed() -> None:
    shared = new_shared()
    process = subprocess.Popen(["sleep", "600"], start_new_session=True)
    shared.keep_running(process)
    process.returncode = None  # here it is to be waited for
    shared.close()
    assert process.wait(timeout=60) == -9
    assert not shared.folder.exists()
