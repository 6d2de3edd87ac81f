"""Fixtures of the tests of scans."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scans.phantom.drawing import write_phantoms


def picture(seed: int, size_px: tuple[int, int] = (64, 48), form: str = "PNG") -> bytes:
    """Return a picture's file: coarse random patches, so that no two are near-duplicates."""
    patches = np.random.default_rng(seed).integers(0, 256, (16, 16), dtype=np.uint8)
    image = Image.fromarray(patches).resize(size_px, Image.Resampling.BICUBIC)
    file = io.BytesIO()
    image.save(file, form)
    return file.getvalue()


def class_folders(folder: Path, counts: dict[str, int], first_seed: int = 0) -> Path:
    """Write distinct pictures `<class>/<number>.png` into a folder and return it."""
    seed = first_seed
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            (folder / name / f"{number}.png").write_bytes(picture(seed))
            seed += 1
    return folder


@pytest.fixture(scope="session")
def phantom_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default phantoms: `scans/<class>/*.png` and `masks/*.png`."""
    folder = tmp_path_factory.mktemp("phantoms")
    write_phantoms(folder / "scans", folder / "masks")
    return folder


@dataclass
class WebServer:
    """A web server whose answers a test scripts; it remembers what was asked.

    Attributes:
        url: of its root.
        answer: called with each request's handler.
        requests: path and Range header of each request, in order.
    """

    url: str = ""
    answer: Callable[[BaseHTTPRequestHandler], None] = field(default=lambda handler: None)
    requests: list[tuple[str, str | None]] = field(default_factory=list)


@pytest.fixture
def web_server() -> Iterator[WebServer]:
    """A real HTTP server on loopback."""
    state = WebServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            state.requests.append((self.path, self.headers.get("Range")))
            self.close_connection = True
            state.answer(self)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


def reply(
    handler: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str | int | None
) -> None:
    """Send an answer; a header set to None is left out, `_` in names stands for `-`."""
    handler.send_response(status)
    for name, value in {"Content_Length": len(body), **headers}.items():
        if value is not None:
            handler.send_header(name.replace("_", "-"), str(value))
    handler.end_headers()
    handler.wfile.write(body)
