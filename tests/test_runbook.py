"""docs/runbook.md names every exit code, kind of error and metric, and none that does not exist."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import get_args

from batch.summary import OWN_KINDS
from model.decoding.errors import ErrorCode
from serve.http.errors import Kind
from serve.http.metrics import ROUTES, Metrics

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return TEXT.split(f"\n## {title}\n")[1].split("\n## ")[0]


def first_cells(text: str) -> list[str]:
    """Return the code words in the first column of tables, headers aside."""
    cells = re.findall(r"^\| (`[^|]*) \|", text, re.MULTILINE)
    return [word for cell in cells for word in re.findall(r"`(\w+)`", cell) if word != "error_code"]


def test_kinds_of_errors_of_requests() -> None:
    assert sorted(first_cells(section("Errors of requests"))) == sorted(get_args(Kind))


def test_codes_of_rows() -> None:
    of_model, of_batch = section("Errors of rows").split("The batch job's own")
    assert sorted(first_cells(of_model)) == sorted(get_args(ErrorCode))
    own = re.match(r"\(([\w|]+)\)", OWN_KINDS.pattern)
    assert own is not None
    assert sorted(first_cells(of_batch)) == sorted(own[1].split("|"))


def exit_codes() -> dict[str, set[int]]:
    """Return the codes that the runbook has for each command; `the same` is the row above."""
    named: dict[str, set[int]] = {}
    commands: list[str] = []
    for cell, code in re.findall(r"^\| ([^|]+) \| (\d+) \|", section("Exit codes"), re.M):
        commands = re.findall(r"`([^`]+)`", cell) or commands
        assert commands, cell
        for command in commands:
            named.setdefault(command, set()).add(int(code))
    return named


def test_exit_codes_are_those_that_the_commands_state() -> None:
    named = exit_codes()
    script = (ROOT / "deploy" / "deploy.sh").read_text(encoding="utf-8")
    stated = re.findall(r"^#   (\d)  ", script.split("# Exit codes:")[1].split("set -euo")[0], re.M)
    assert named["deploy/deploy.sh"] == set(map(int, stated))
    batch = (ROOT / "docs" / "batch.md").read_text(encoding="utf-8")
    table = batch.split("| exit code | meaning |")[1].split("\n\n")[0]
    assert named["python -m batch"] == set(map(int, re.findall(r"^\| (\d) \|", table, re.M)))
    promote = (ROOT / "steps" / "promote.py").read_text(encoding="utf-8")
    stated = re.findall(r"(\d) ", promote.split("Exit codes:")[1].split("\n")[0])
    assert named["python -m steps.promote"] == set(map(int, stated))
    stopped = {128 + signal.SIGTERM, 128 + signal.SIGHUP}
    assert named["python -m steps.main"] == {0, 1, 2, *stopped}
    assert named["python -m serve"] == {0, 2, 128 + signal.SIGKILL}


NOT_FOR_OPERATORS = {
    "python -m steps.gates.clean_process",  # a child of the gates
    "python -m steps.parameters_page",  # writes a page of the documents
    "deploy/ec2-user-data.sh", "deploy/slim-venv.sh", "deploy/write_byte_code.py",  # run once
}  # fmt: skip


def programs() -> dict[str, Path]:
    """Return what can be started, by how the runbook would name it."""
    found = {}
    for path in sorted(p for f in ("batch", "serve", "steps") for p in (ROOT / f).rglob("*.py")):
        if '__name__ == "__main__"' in path.read_text(encoding="utf-8"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[f"python -m {'.'.join(parts).removesuffix('.__main__')}"] = path
    for path in [*(ROOT / "deploy").rglob("*.sh"), *(ROOT / "deploy").rglob("*.py")]:
        found[path.relative_to(ROOT).as_posix()] = path
    return {name: path for name, path in found.items() if name not in NOT_FOR_OPERATORS}


def test_every_program_and_every_code_in_it_is_there() -> None:
    named = exit_codes()
    assert sorted(programs()) == sorted(named)
    for name, path in programs().items():
        text = path.read_text(encoding="utf-8")
        of = set(map(int, re.findall(r"(?:sys\.exit\(|\bexit |\bfail )(\d)\b", text)))
        of |= {1} if "one_sentence_errors" in text or re.search(r'sys\.exit\(f?"', text) else set()
        of |= {2} if "click.command" in text else set()
        assert of, name
        assert of <= named[name], name


def test_metrics_and_routes_exist() -> None:
    known = {metric.name for metric in Metrics().registry.collect()}
    for name in set(re.findall(r"chest_ct_\w+", TEXT)):
        assert re.sub(r"_(total|bucket)$", "", name) in known, name
    for route in re.findall(r"`(/[a-z]+)`", TEXT):
        assert route in ROUTES, route
    for kind in re.findall(r'kind="(\w+)"', TEXT):
        assert kind in get_args(Kind), kind
