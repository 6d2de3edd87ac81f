"""An S3 server in a few lines, for keys and failures that a real one cannot be made to show."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


@dataclass
class ScriptedS3:
    """Objects of one bucket `b`.

    Attributes:
        objects: bytes by key.
        url: of the server.
        breaks: how many more answers with an object's bytes break off half-way.
        signed: the Authorization header of each request, None for anonymous ones.
    """

    objects: dict[str, bytes] = field(default_factory=dict)
    url: str = ""
    breaks: int = 0
    signed: list[str | None] = field(default_factory=list)


@contextlib.contextmanager
def scripted_s3() -> Iterator[ScriptedS3]:
    """Run the server until the block ends."""
    state = ScriptedS3()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._object(head=True)

        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            if "list-type" in query:
                self._list(query["prefix"][0])
            else:
                self._object(head=False)

        def _list(self, prefix: str) -> None:
            state.signed.append(self.headers.get("Authorization"))
            entries = "".join(
                f"<Contents><Key>{escape(key)}</Key><Size>{len(data)}</Size></Contents>"
                for key, data in sorted(state.objects.items())
                if key.startswith(prefix)
            )
            body = f"<ListBucketResult>{entries}</ListBucketResult>".encode()
            self._answer(200, body, len(body))

        def _object(self, *, head: bool) -> None:
            state.signed.append(self.headers.get("Authorization"))
            key = unquote(self.path.partition("?")[0].removeprefix("/b/"))
            data = state.objects.get(key)
            if data is None:
                self._answer(404, b"", 0)
                return
            first, _, last = self.headers.get("Range", "").removeprefix("bytes=").partition("-")
            part = data[int(first or 0) : int(last or len(data)) + 1]
            body = b"" if head else part
            if body and state.breaks > 0:
                state.breaks -= 1
                body = body[: len(body) // 2]
            self._answer(206 if first else 200, body, len(part))

        def _answer(self, status: int, body: bytes, length: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(length))
            self.send_header("ETag", '"e"')
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # the client may have read enough
                self.wfile.write(body)
            self.close_connection = len(body) != length

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
