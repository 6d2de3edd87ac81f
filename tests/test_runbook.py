"""docs/runbook.md names every exit code, kind of error and metric, and none that does not exist."""

from __future__ import annotations

import re
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


def test_exit_codes_are_those_that_the_commands_state() -> None:
    named: dict[str, set[int]] = {}
    for command, code in re.findall(r"^\| `([^`]+)` \| (\d+) \|", section("Exit codes"), re.M):
        named.setdefault(command, set()).add(int(code))
    script = (ROOT / "deploy" / "deploy.sh").read_text(encoding="utf-8")
    stated = re.findall(r"^#   (\d)  ", script.split("# Exit codes:")[1].split("set -euo")[0], re.M)
    assert named.pop("deploy/deploy.sh") == set(map(int, stated))
    batch = (ROOT / "docs" / "batch.md").read_text(encoding="utf-8")
    table = batch.split("| exit code | meaning |")[1].split("\n\n")[0]
    assert named.pop("python -m batch") == set(map(int, re.findall(r"^\| (\d) \|", table, re.M)))
    promote = (ROOT / "steps" / "promote.py").read_text(encoding="utf-8")
    stated = re.findall(r"(\d) ", promote.split("Exit codes:")[1].split("\n")[0])
    assert named.pop("python -m steps.promote") == set(map(int, stated))
    main = (ROOT / "serve" / "__main__.py").read_text(encoding="utf-8")
    stated = re.findall(r"sys\.exit\((\d)\)", main)
    assert named.pop("python -m serve") == {*map(int, stated), 137}
    assert named == {}


def test_metrics_and_routes_exist() -> None:
    known = {metric.name for metric in Metrics().registry.collect()}
    for name in set(re.findall(r"chest_ct_\w+", TEXT)):
        assert re.sub(r"_(total|bucket)$", "", name) in known, name
    for route in re.findall(r"`(/[a-z]+)`", TEXT):
        assert route in ROUTES, route
    for kind in re.findall(r'kind="(\w+)"', TEXT):
        assert kind in get_args(Kind), kind
