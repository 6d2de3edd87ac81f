"""A model loaded before a fork answers after it, in the child as in the parent."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.model.tiny import Tiny

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

TIMEOUT_S = 120

# Each in a process of its own: what hangs or aborts must not take the tests with it.
START = """
import multiprocessing, os, sys, threading, warnings
from pathlib import Path
import mlflow.pyfunc, pandas as pd
warnings.simplefilter("ignore")  # Python's own, on forking with threads
folder, scans = sys.argv[1], [Path(name).read_bytes() for name in sys.argv[2:]]
model = mlflow.pyfunc.load_model(folder)

def ask(count=len(scans)):
    rows = model.predict(pd.DataFrame({"image": scans[:count]}))
    assert rows["error"].isna().all(), rows["error"].tolist()
    return rows["p_normal"].tolist()

def near(left, right):
    return len(left) == len(right) and all(abs(a - b) < 1e-5 for a, b in zip(left, right))

def forked(work):
    child = os.fork()
    if child == 0:
        code = 9
        try:
            code = 0 if work() else 8
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

"""
AFTER_A_PREDICT = """
before = ask()
for count in (1, 3):
    child = forked(lambda: near(ask(count), before[:count]))
    assert child == 0, (count, child)
assert near(ask(), before)  # and the parent goes on
"""
BEFORE_ANY = """
inbox, outbox = multiprocessing.Pipe(False)
for count in (1, 3):
    child = forked(lambda: outbox.send(ask(count)) or True)
    assert child == 0, (count, child)
answers = [inbox.recv(), inbox.recv()]
expected = ask()
assert near(answers[0], expected[:1]) and near(answers[1], expected[:3])
"""
POOL = """
expected = ask()
with multiprocessing.get_context("fork").Pool(2) as pool:
    for rows in pool.map(ask, [len(scans)] * 4):
        assert near(rows, expected)
# A grandchild, and threads in a child.
assert forked(lambda: forked(lambda: near(ask(), expected)) == 0) == 0
def threads():
    answers = []
    ts = [threading.Thread(target=lambda: answers.append(ask())) for _ in range(4)]
    for t in ts: t.start()
    for t in ts: t.join()
    return len(answers) == 4 and all(near(rows, expected) for rows in answers)
assert forked(threads) == 0
"""
BUSY = """
expected, stop = ask(), threading.Event()
def work():
    while not stop.is_set():
        ask()
busy = [threading.Thread(target=work) for _ in range(2)]
for t in busy: t.start()
codes = [forked(lambda: near(ask(1), expected[:1])) for _ in range(5)]
stop.set()
for t in busy: t.join()
assert codes == [0] * 5, codes
"""
LOAD_AGAIN = """
def load():
    try:
        mlflow.pyfunc.load_model(folder)
    except Exception as error:
        while error.__cause__ is not None:
            error = error.__cause__
        print(error, flush=True)
        return True
assert forked(load) == 0
"""


def run(code: str, tiny: Tiny, scans: list[Path]) -> str:
    done = subprocess.run(
        [sys.executable, "-c", START + code, str(tiny.model), *map(str, scans)],
        capture_output=True, text=True, timeout=TIMEOUT_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def files(tiny_pipeline: Tiny) -> list[Path]:
    return sorted((tiny_pipeline.data / "scans").rglob("*.png"))[:3]


@pytest.mark.parametrize(
    "code", [AFTER_A_PREDICT, BEFORE_ANY], ids=["after a predict", "before any"]
)
def test_a_forked_child_answers_as_its_parent(
    tiny_pipeline: Tiny, files: list[Path], code: str
) -> None:
    run(code, tiny_pipeline, files)


def test_pools_grandchildren_and_threads_of_children_answer(
    tiny_pipeline: Tiny, files: list[Path]
) -> None:
    run(POOL, tiny_pipeline, files)


def test_a_fork_beside_a_busy_thread_waits_for_its_inference(
    tiny_pipeline: Tiny, files: list[Path]
) -> None:
    run(BUSY, tiny_pipeline, files)


def test_loading_in_a_child_of_a_process_that_had_loaded_is_refused_with_a_sentence(
    tiny_pipeline: Tiny, files: list[Path]
) -> None:
    said = run(LOAD_AGAIN, tiny_pipeline, files)
    assert "start workers with 'spawn' or 'forkserver'" in said


def test_a_fork_that_began_before_the_model_was_loaded_is_no_fault() -> None:
    code = (
        "import os\n"
        "from model.forks import Inferences\n"
        "made = []\n"
        "os.register_at_fork(before=lambda: made or made.append(Inferences()))\n"
        "for _ in range(2):\n"  # the second one finds it registered
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        made[0].start(type('R', (), {'start_async': print, 'wait': print})(), None)\n"
        "        os._exit(0)\n"
        "    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0\n"
        "made[0].start(type('R', (), {'start_async': print, 'wait': print})(), None)\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=TIMEOUT_S
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
