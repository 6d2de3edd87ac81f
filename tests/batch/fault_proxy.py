"""A proxy before the S3 server that counts what is read and injects faults."""

from __future__ import annotations

import contextlib
import http.client
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle
from urllib.parse import unquote, urlsplit

SLOW_DOWN = (
    b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message>"
    b"</Error>"
)
INTERNAL = (
    b"<?xml version='1.0'?><Error><Code>InternalError</Code><Message>We failed.</Message></Error>"
)
EXPIRED = (
    b"<?xml version='1.0'?><Error><Code>ExpiredToken</Code><Message>The provided token has "
    b"expired.</Message></Error>"
)
FORBIDDEN = (
    b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
)
ANSWERS = {
    "503": (503, SLOW_DOWN),
    "500": (500, INTERNAL),
    "expired": (400, EXPIRED),
    "forbidden": (403, FORBIDDEN),
}
# Each fault: none, 503, 500, expired, forbidden, reset, truncate, corrupt, delay, lost (the request
# arrives, its answer does not)
Choose = Callable[[str, str], str]


@dataclass
class Proxy:
    """A running proxy. `choose(method, path)` names the fault for each request."""

    upstream: str
    choose: Choose
    gets: Counter[str] = field(default_factory=Counter)  # by path, requests that were let through
    injected: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)
    endpoint_url: str = ""
    delay_s: float = 0.2

    def reads_of(self, prefix: str) -> int:
        """Return how many objects' bodies below /bucket/prefix were asked for and sent."""
        with self.lock:
            return sum(n for path, n in self.gets.items() if path.startswith(prefix))


def seldom(rate: float, seed: int, faults: tuple[str, ...], prefix: str = "/") -> Choose:
    """Return a choice that hits requests at random at a given rate, with each fault in turn."""
    generator = random.Random(seed)
    turns = cycle(faults)
    lock = threading.Lock()  # else threads interleave, and a seed does not give the same hits

    def choose(_method: str, path: str) -> str:
        if not path.startswith(prefix):
            return "none"
        with lock:
            return next(turns) if generator.random() < rate else "none"

    return choose


@contextlib.contextmanager
def fault_proxy(upstream: str, choose: Choose = lambda method, path: "none") -> Iterator[Proxy]:
    """Run a proxy on a free port until the block ends."""
    proxy = Proxy(upstream, choose)

    class Handler(_Handler):
        state = proxy

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    proxy.endpoint_url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    state: Proxy

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def handle_one_request(self) -> None:
        """Ignore clients that were killed."""
        try:
            super().handle_one_request()
        except OSError:
            self.close_connection = True

    def _relay(self) -> None:
        body = self._body()
        path = unquote(urlsplit(self.path).path)
        fault = self.state.choose(self.command, path)
        with self.state.lock:
            self.state.injected[fault] += 1
        if fault in ANSWERS:
            status, text = ANSWERS[fault]
            self._answer(status, [], text)
        elif fault == "reset":
            self._reset()
        else:
            if fault == "delay":
                time.sleep(self.state.delay_s)
            self._pass_on(body, path, fault)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _relay  # noqa: N815 - the base class's names

    def _body(self) -> bytes:
        if self.headers.get("Expect", "").lower() == "100-continue":
            pass  # the base class has answered it
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            raise AssertionError("boto3 sends lengths")
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _pass_on(self, body: bytes, path: str, fault: str) -> None:
        upstream = urlsplit(self.state.upstream)
        connection = http.client.HTTPConnection(upstream.hostname or "", upstream.port, timeout=60)
        try:
            headers = {k: v for k, v in self.headers.items() if k.lower() != "connection"}
            connection.putrequest(
                self.command, self.path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in headers.items():
                connection.putheader(name, value)  # Host as the client signed it
            connection.endheaders(body or None)
            answer = connection.getresponse()
            data = answer.read()
            kept = [
                (k, v)
                for k, v in answer.getheaders()
                if k.lower() not in ("transfer-encoding", "connection", "content-length")
            ]
            length = answer.getheader("Content-Length")
        finally:
            connection.close()
        if fault == "lost":
            self._reset()
            return
        if self.command == "GET" and answer.status == 200:
            with self.state.lock:
                self.state.gets[path] += 1
        sizes = length if self.command == "HEAD" else None
        self._answer(answer.status, kept, data, fault, sizes)

    def _answer(
        self,
        status: int,
        headers: list[tuple[str, str]],
        data: bytes,
        fault: str = "none",
        length: str | None = None,
    ) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        if status not in (204, 304):
            self.send_header("Content-Length", length or str(len(data)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault == "truncate" and len(data) > 1:
            self.wfile.write(data[: len(data) // 2])
            self.wfile.flush()
            self._reset()
            return
        if fault == "corrupt" and data:
            data = data[:-1] + bytes([data[-1] ^ 0xFF])
        self.wfile.write(data)

    def _reset(self) -> None:
        self.wfile.flush()
        # Linger 0: the kernel sends RST instead of FIN.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RD)
        self.close_connection = True
