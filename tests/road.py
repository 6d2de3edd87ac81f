"""The commands of the first page and the guides, run in their order in a fresh clone.

    python -m tests.road                 with the documents' own parameters: some 20 minutes
    python -m tests.road --small         on a few small phantoms, without real scans: a minute

Prints each command and what it answers. A line that a document shows and that no command printed is
named at the end, and the exit code is 1. With --small, numbers are not compared, and the exit code
is 0 also where a small model's answer is another word than a document has.

Real scans are those that CHEST_CT_SCANS and CHEST_CT_DATA name; without them the commands that need
them are left out, and said.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from model.decoding.scan_file import decode_grey
from scans.manifest import MANIFEST, read_manifest
from tests.s3_server import S3Server, start_s3_server

ROOT = Path(__file__).resolve().parents[1]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
RUN, OUTPUT, TRANSCRIPT = "run", "output", "transcript"
SCANS = "real scans"  # the block needs CHEST_CT_SCANS
ELSEWHERE = "scans of another site"  # the block needs CHEST_CT_DATA
THREE = "scans of three collections"  # the block needs both, and another file of CHEST_CT_DATA
# What must lie in the clone.
NEEDED = {
    SCANS: "Chest-CT-Scan-data.zip",
    ELSEWHERE: "IQ-OTHNCCD.zip",
    THREE: "other-cancers.zip",
}
SERVERS = ("mlflow models serve", "python -m serve")  # these run until they are stopped
START_S = 90
WHEN_AND_WHO = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC  \S+")  # of a move

# For each block of a document, in order: how it begins, and what the road does with it. A block
# that it does not run says what it needs, and which test runs it there.
PLAN: dict[str, list[tuple[str, str]]] = {
    "README.md": [
        ("python -m pip install -r requirements.txt && mlflow run .", RUN),
        ("240 files", OUTPUT),
        ("python -m pip install -r requirements-dev.txt && pytest", "the tests, which run this"),
        ("====", "their last line"),
        ("mlflow run . --env-manager local -P protocol_repeats=3", THREE),
        ("1126 files", OUTPUT),
        ("mlflow run . --env-manager local -P source=", SCANS),
        ("mlflow run . -e external_evaluation", ELSEWHERE),
        ("external set", OUTPUT),
        ("$ python -m steps.promote --to Staging", SCANS),
        ("mlflow models serve", RUN),
        ('{"predictions"', "an answer, of another scan: tests/serve/test_docs.py"),
        ("python -m serve", RUN),
        ("docker build", "a container engine: tests/deploy/test_image.py"),
        ("python -m batch s3://", SCANS),
    ],
    "docs/registry.md": [
        ("$ mlflow run . --env-manager local -P register=true", TRANSCRIPT),
        ("$ mlflow run . --env-manager local -P source=", ELSEWHERE),  # and SCANS
        ("mlflow run . -e external_evaluation", "the same block as in README.md"),
        ("export MLFLOW_TRACKING_URI=https://dagshub.com", "an account at DagsHub"),
        ("sudo -u postgres", "PostgreSQL: tests/steps/test_promote_server.py"),
        ("[mlflow]", "a file: tests/steps/mlflow_server.py writes it"),
        ("export MLFLOW_AUTH_CONFIG_PATH", "a server: tests/steps/test_promote_server.py"),
        ("curl -u admin", "a server: tests/steps/test_promote_server.py"),
        ("aws s3 sync", "two buckets at AWS, PostgreSQL"),
    ],
    "docs/deploy.md": [
        ("python -m steps.main", "a container engine: tests/deploy/test_image.py"),
        ("docker run", "a container engine: tests/deploy/test_image.py"),
        ("deploy/smoke.sh", "a container engine: the job `image` of .github/workflows/ci.yml"),
        ("ok: runs as user", "a container engine: what the block before printed"),
        ("mlflow models build-docker", "a container engine: deploy/smoke.sh --compare"),
        ("install -m 600 deploy/.env.example", "containers; its other lines: tests/test_road.py"),
        *[("", "moto's account: tests/deploy/test_deploy_docs.py")] * 6,
        ("aws ssm start-session", "an instance"),
        ("sudo -iu ec2-user", "an instance"),
        ("for environment in image train", "a repository at GitHub"),
        ("for environment in image production", "a repository at GitHub"),
        ("gh workflow run deploy.yml", "a repository at GitHub"),
        ("deploy/deploy.sh --rollback", "an instance: tests/deploy/test_deploy_script.py"),
        ("GITHUB_REPOSITORY=", "moto's account: tests/deploy/test_deploy_docs.py"),
        ("gh variable set", "a repository at GitHub"),
        ("aws ec2 terminate-instances", "moto's account: tests/deploy/test_deploy_docs.py"),
    ],
}
SMALL = {
    "data_ingestion": {"phantom_images": 60, "group_distance_bits": 10},
    "prepare_base_model": {"image_size_px": 32, "weights": "random", "calibration_images": 8},
    "training": {"epochs": 3},
    "evaluation": {"protocol_repeats": 1, "stress": False},
}


@dataclasses.dataclass(frozen=True)
class Block:
    """A block of a document, and what is done with it."""

    document: str
    text: str
    plan: str


def blocks(document: str) -> list[str]:
    """Return the fenced blocks of a document, in order."""
    return [match[2] for match in FENCE.finditer((ROOT / document).read_text(encoding="utf-8"))]


def planned(document: str) -> list[Block]:
    """Return the blocks of a document with their plans.

    Raises:
        ValueError: the plan and the document do not agree.
    """
    found, plan = blocks(document), PLAN[document]
    if len(found) != len(plan):
        raise ValueError(f"{document}: expected {len(plan)} blocks, found {len(found)}")
    for text, (begins, _) in zip(found, plan, strict=True):
        if not text.startswith(begins):
            raise ValueError(f"{document}: expected a block that begins {begins!r}, found {text!r}")
    return [Block(document, text, how) for text, (_, how) in zip(found, plan, strict=True)]


@contextlib.contextmanager
def clone(small: bool) -> Iterator[Path]:
    """Give a clone of this checkout with its uncommitted files, the real scans and a scan.png."""
    with tempfile.TemporaryDirectory(prefix="chest-ct-road-") as scratch:
        folder = Path(scratch) / "chest-ct"
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
        for name in filter(None, listed.stdout.split("\0")):
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)
        if small:
            path = folder / "params.yaml"
            params = yaml.safe_load(path.read_text(encoding="utf-8"))
            for section, values in SMALL.items():
                params[section] |= values
            path.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
        data = os.environ.get("CHEST_CT_DATA", "")
        for name, source in (
            (NEEDED[SCANS], os.environ.get("CHEST_CT_SCANS")),
            (NEEDED[ELSEWHERE], f"{data}/IQ-OTHNCCD-part.zip"),
            (NEEDED[THREE], f"{data}/Chest-CT-Scan-other-cancers.zip"),
        ):
            if source and Path(source).is_file() and not small:
                (folder / name).symlink_to(source)
        identity = ["-c", "user.name=road", "-c", "user.email=road@example.org"]
        for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "as it is"]):
            subprocess.run(["git", *identity, *command], cwd=folder, check=True)
        yield folder


class Road:
    """Runs blocks in a clone and keeps what they printed."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = environment
        self.printed: list[str] = []

    def command(self, command: str, *, may_fail: bool = False) -> None:
        """Run a command, show it with what it prints, and fail with it unless it may."""
        print(f"$ {command}", flush=True)
        started = time.monotonic()
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command], cwd=self.folder, env=self.environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        )  # fmt: skip
        print(done.stdout, end="", flush=True)
        print(f"# exit code {done.returncode}, {time.monotonic() - started:.0f} s", flush=True)
        self.printed += [line.rstrip() for line in done.stdout.splitlines()]
        if done.returncode and not may_fail:
            raise SystemExit(f"{command!r} ended with exit code {done.returncode}.")

    def block(self, text: str) -> None:
        """Run the commands of a block; a server among them is stopped at its end."""
        if text.startswith("$ "):
            for line in text.splitlines():
                if line.startswith("$ "):
                    self.command(line.removeprefix("$ ").partition("  #")[0], may_fail=True)
            return
        first, _, rest = text.partition("\n")
        if not first.startswith(SERVERS):
            self.command(text.strip())
            return
        with self.server(first):
            self.command(rest.strip())

    @contextlib.contextmanager
    def server(self, command: str) -> Iterator[None]:
        """Run a server until the block ends."""
        port = re.search(r"--port (\d+)", command)
        assert port, command
        print(f"$ {command} &", flush=True)
        process = subprocess.Popen(
            ["bash", "-c", f"exec {command}"], cwd=self.folder, env=self.environment,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, process_group=0,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + START_S
            while True:
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port[1]}/ping", timeout=2).close()
                    break
                except OSError as error:
                    if process.poll() is not None or time.monotonic() > deadline:
                        raise SystemExit(f"{command!r} does not answer: {error}") from error
                    time.sleep(0.3)
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)


def missing_lines(text: str, printed: list[str], *, numbers: bool) -> list[str]:
    """Return the lines of a documented output that nothing printed.

    Args:
        text: of the block; `…` stands for left-out lines, or for the rest of one.
        printed: lines.
        numbers: whether numbers must agree as well.
    """

    def form(line: str) -> str:
        line = WHEN_AND_WHO.sub("…", line.strip())
        return line if numbers else re.sub(r"\d[\d.]*", "#", line)

    known = [form(line) for line in printed]
    wanted = [line for line in text.splitlines() if line.strip() not in ("", "…")]
    return [
        line
        for line in wanted
        if not line.startswith("$ ")
        and not any(
            one.startswith(form(line.rstrip().removesuffix("…"))) if line.rstrip().endswith("…")
            else one == form(line)
            for one in known
        )
    ]  # fmt: skip


def walk(documents: list[str], *, small: bool) -> list[str]:
    """Run the documents' blocks in order; return the documented lines that nothing printed."""
    unwanted = ("MLFLOW_", "AWS_", "CHEST_CT_API")
    clean = {key: value for key, value in os.environ.items() if not key.startswith(unwanted)}
    clean["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), clean["PATH"]])
    wrong: list[str] = []
    with contextlib.ExitStack() as stack:
        process, s3 = start_s3_server(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        stack.callback(process.wait)
        stack.callback(process.terminate)
        shared = stack.enter_context(clone(small)) if small else None  # unchanged stages are kept
        for document in documents:
            folder = shared or stack.enter_context(clone(small))
            wrong += walk_document(document, Road(folder, clean | s3.env()), s3, numbers=not small)
    return wrong


def walk_document(document: str, road: Road, s3: S3Server, *, numbers: bool) -> list[str]:
    """Run the blocks of one document; return its lines that nothing printed."""
    here, wrong = True, []
    for block in planned(document):
        if block.plan in NEEDED:
            here = (road.folder / NEEDED[block.plan]).exists()
        elif block.plan in (RUN, TRANSCRIPT):
            here = True
        elif block.plan != OUTPUT:
            print(f"[{document}] not run here, needs {block.plan}")
            continue
        if not here:
            print(f"[{document}] left out: {block.plan}")
            continue
        if block.plan != OUTPUT:
            prepare(road.folder, s3.client())
            road.block(block.text)
        if block.plan == OUTPUT or block.text.startswith("$ "):
            lost = missing_lines(block.text, road.printed, numbers=numbers)
            wrong += [f"{document}: {line}" for line in lost]
    return wrong


def prepare(folder: Path, s3: Any) -> None:
    """Put a scan where the documents have one, and scans into the bucket that they name."""
    data = folder / "artifacts" / "data_ingestion"
    if (folder / "scan.png").exists() or not (data / MANIFEST).is_file():
        return
    files = [data / row.path for row in read_manifest(data)[:8]]
    Image.fromarray(decode_grey(files[0].read_bytes())).save(folder / "scan.png")
    if not any(bucket["Name"] == "hospital" for bucket in s3.list_buckets()["Buckets"]):
        s3.create_bucket(Bucket="hospital")  # another document's clone may have made it
    for number, file in enumerate(files):
        s3.upload_file(str(file), "hospital", f"scans/2026-11/{number}{file.suffix}")


def main() -> None:
    """Read the command line and walk."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("documents", nargs="*", default=list(PLAN), help="documents to walk")
    parser.add_argument("--small", action="store_true", help="a few small phantoms")
    given = parser.parse_args()
    wrong = walk(given.documents, small=given.small)
    for line in wrong:
        print(f"Not printed by any command: {line}", file=sys.stderr)
    sys.exit(1 if wrong and not given.small else 0)


if __name__ == "__main__":
    main()
