"""A container engine and images for the tests of the image and of the deployment.

The engine is `docker` or `podman`, whichever works; CONTAINER_TOOL names one. Where none works
the tests that need one are skipped and say why.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BASE = os.environ.get("PYTHON_IMAGE", "python:3.11-slim-bookworm")

SMALL_SERVER = """
import http.server, os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = os.environ["VERSION"].encode()
        self.send_response(int(os.environ["STATUS"]))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass
if os.environ["VERSION"] == "crashes": sys.exit("cannot load the model")
http.server.HTTPServer(("0.0.0.0", 5000), Handler).serve_forever()
"""


@dataclass(frozen=True)
class Engine:
    """A container engine's command."""

    tool: str

    def __call__(self, *arguments: str | Path, check: bool = True) -> str:
        """Run the engine with `arguments` and return what it printed on stdout."""
        done = subprocess.run(
            [self.tool, *map(str, arguments)],
            capture_output=True,
            text=True,
            env=os.environ | {"BUILDAH_FORMAT": "docker"},  # podman: keep HEALTHCHECK
        )
        if check and done.returncode:
            raise AssertionError(f"{self.tool} {arguments}: {done.stderr[-3000:]}")
        return done.stdout.strip()


@pytest.fixture(scope="session")
def engine() -> Engine:
    """The container engine of this machine; CHEST_CT_REQUIRE_CONTAINERS forbids to skip."""
    wanted = os.environ.get("CONTAINER_TOOL")
    reasons = []
    for tool in [wanted] if wanted else ["docker", "podman"]:
        if not shutil.which(tool):
            reasons.append(f"{tool} is not on PATH")
        elif subprocess.run([tool, "info"], capture_output=True).returncode:
            reasons.append(f"{tool} has no engine to talk to")
        elif not any(
            subprocess.run([tool, *command, BASE], capture_output=True).returncode == 0
            for command in (["image", "inspect"], ["pull", "-q"])
        ):
            reasons.append(f"{tool} has no image {BASE} and cannot pull it")
        else:
            return Engine(tool)
    reason = "no containers: " + "; ".join(reasons)
    if "CHEST_CT_REQUIRE_CONTAINERS" in os.environ:
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def small_image(
    engine: Engine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str, int], str]]:
    """Build a small server's image: `small_image(version, status of /health)` gives its name."""
    built: list[str] = []

    def build(version: str, status: int = 200) -> str:
        name = f"localhost/chest-ct-test:{version}"
        if name not in built:
            folder = tmp_path_factory.mktemp("image")
            (folder / "server.py").write_text(SMALL_SERVER)
            (folder / "Dockerfile").write_text(
                f"FROM {BASE}\nCOPY server.py /server.py\n"
                f"ENV VERSION={version} STATUS={status}\nUSER 10001\n"
                'CMD ["python", "-S", "/server.py"]\n'
            )
            engine("build", "-q", "-t", name, folder)
            built.append(name)
        return name

    yield build
    for name in built:
        engine("rmi", "-f", name, check=False)
