"""The commands of the documents are known to the road that runs them, and run, small."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fork_server import ForkServer
from tests.road import PLAN, RUN, SCANS, TRANSCRIPT, blocks, clone, missing_lines, planned, walk
from tests.s3_server import S3Server
from tests.steps.mlflow_server import running_mlflow_server

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("document", PLAN)
def test_every_block_of_a_document_is_run_or_says_what_it_needs(document: str) -> None:
    found = planned(document)
    assert [block.text for block in found] == blocks(document)
    named = re.findall(r"tests/[\w./]+\.py", " ".join(block.plan for block in found))
    assert [name for name in named if not (ROOT / name).is_file()] == []
    assert all(block.plan.strip() for block in found)


def test_the_first_page_is_run_in_an_order_that_works() -> None:
    """A version is promoted before something asks for Production, and registered before that."""
    text = "\n".join(block.text for block in planned("README.md"))
    order = [
        "-P register=true", "models:/chest-ct/1", "--to Staging", "--to Production",
        "--model-uri models:/chest-ct/Production",
    ]  # fmt: skip
    places = [text.index(words) for words in order]
    assert places == sorted(places)


def test_a_line_that_nothing_printed_is_found() -> None:
    printed = ["accuracy          0.812  (n = 48)", "registered model  chest-ct version 1", "x"]
    shown = "…\naccuracy          0.812  (n = 48)\nregistered…\n$ a command\n"
    assert missing_lines(shown, printed, numbers=True) == []
    other = "accuracy          0.813  (n = 48)"
    assert missing_lines(other, printed, numbers=True) == [other]
    assert missing_lines(other, printed, numbers=False) == []
    assert missing_lines("precision 0.8", printed, numbers=False) == ["precision 0.8"]


@pytest.mark.slow
def test_the_documents_commands_run_on_small_phantoms(capfd: pytest.CaptureFixture[str]) -> None:
    walk(["README.md", "docs/registry.md"], small=True)
    said = capfd.readouterr().out
    for document in ("README.md", "docs/registry.md"):
        for block in planned(document):
            if block.plan in (RUN, TRANSCRIPT):
                first = block.text.splitlines()[0].removeprefix("$ ").partition("  #")[0]
                assert f"$ {first}" in said
    assert "exit code 2" not in said
    assert f"left out: {SCANS}" in said  # what phantoms cannot show


@pytest.mark.slow
def test_the_whole_system_is_tried_on_phantoms_without_forcing(
    tmp_path: Path, s3_server: S3Server, fork_server: ForkServer
) -> None:
    """The commands between the containers of docs/deploy.md, with a server in a process."""
    (compose,) = [text for text in blocks("docs/deploy.md") if "compose" in text]
    commands = [
        line.partition("#")[0].strip()
        for line in compose.splitlines()
        if line.startswith("python -m")
    ]
    assert [line.split()[2] for line in commands] == ["steps.main", "steps.promote"]
    with (
        clone(small=True) as folder,
        running_mlflow_server(tmp_path, s3_server, fork_server) as server,
    ):
        environment = os.environ | server.env()
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
        for command in commands:
            done = subprocess.run(
                command.split(), cwd=folder, env=environment, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stdout + done.stderr
        assert "SYNTHETIC" in done.stdout
        code = (
            "import json, sys; from serve.model_files import about, fetch; "
            "from mlflow.models import Model; f = fetch('models:/chest-ct@trial'); "
            "print(json.dumps(about(f, Model.load(str(f.folder))), default=str))"
        )
        asked = subprocess.run(
            [sys.executable, "-c", code],
            cwd=folder, env=environment, capture_output=True, text=True,
        )  # fmt: skip
    shown = json.loads(asked.stdout.splitlines()[-1])
    assert shown["synthetic"].startswith("SYNTHETIC: ")
    assert shown["aliases"] == ["trial"] and shown["phantom"] is True and shown["stage"] is None
    assert 0 <= shown["scores"]["accuracy"] <= 1
