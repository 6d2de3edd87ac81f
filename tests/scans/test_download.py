from __future__ import annotations

from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from scans.download import ATTEMPTS, CHUNK_BYTES, download_url
from scans.errors import SourceError
from scans.limits import Limits
from tests.s3_server import free_port
from tests.scans.conftest import WebServer, reply

BODY = bytes(range(256)) * 4000  # about 1 MB


class Waits(list[float]):
    """Stands in for sleeping: remembers how long."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def serve_range(handler: BaseHTTPRequestHandler, body: bytes, etag: str, cut: int = 0) -> None:
    """Answer as servers that can resume do; `cut` bytes into the answer the connection breaks."""
    asked, start = handler.headers.get("Range"), 0
    if asked and handler.headers.get("If-Range") == etag:
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
    else:
        handler.send_response(200)
    handler.send_header("Content-Length", str(len(body) - start))
    handler.send_header("ETag", etag)
    handler.end_headers()
    part = body[start:]
    handler.wfile.write(part[:cut] if cut else part)


def refused(server_url: str, target: Path, limits: Limits | None = None) -> str:
    with pytest.raises(SourceError) as caught:
        download_url(server_url, target, limits or Limits(), sleep=Waits())
    assert not target.exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_arrives_whole(web_server: WebServer, tmp_path: Path) -> None:
    web_server.answer = lambda handler: reply(handler, 200, BODY)
    download_url(f"{web_server.url}/scans.zip", tmp_path / "z", Limits())
    assert (tmp_path / "z").read_bytes() == BODY
    assert [path.name for path in tmp_path.iterdir()] == ["z"]


def test_without_a_length_the_end_of_the_chunks_is_the_end(
    web_server: WebServer, tmp_path: Path
) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
        reply(handler, 200, chunked, Content_Length=None, Transfer_Encoding="chunked")

    web_server.answer = answer
    download_url(web_server.url, tmp_path / "z", Limits())
    assert (tmp_path / "z").read_bytes() == BODY


def test_a_broken_connection_is_resumed(web_server: WebServer, tmp_path: Path) -> None:
    web_server.answer = lambda handler: serve_range(
        handler, BODY, '"one"', cut=CHUNK_BYTES if len(web_server.requests) < 3 else 0
    )
    waits = Waits()
    download_url(web_server.url, tmp_path / "z", Limits(), sleep=waits)
    assert (tmp_path / "z").read_bytes() == BODY
    assert [asked for _, asked in web_server.requests] == [
        None,
        f"bytes={CHUNK_BYTES}-",
        f"bytes={2 * CHUNK_BYTES}-",
    ]
    assert waits == [1.0, 1.0]  # progress starts the back-off anew


def test_a_file_that_changes_meanwhile_is_started_again(
    web_server: WebServer, tmp_path: Path
) -> None:
    new = BODY[::-1] + b"longer"
    web_server.answer = lambda handler: (
        serve_range(handler, BODY, '"old"', cut=300_000)
        if len(web_server.requests) == 1
        else serve_range(handler, new, '"new"')
    )
    download_url(web_server.url, tmp_path / "z", Limits(), sleep=Waits())
    assert (tmp_path / "z").read_bytes() == new


def test_a_server_that_cannot_resume_is_asked_for_all(
    web_server: WebServer, tmp_path: Path
) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        whole = len(web_server.requests) == 2
        reply(handler, 200, BODY if whole else BODY[:1000], Content_Length=len(BODY))

    web_server.answer = answer
    download_url(web_server.url, tmp_path / "z", Limits(), sleep=Waits())
    assert (tmp_path / "z").read_bytes() == BODY


def test_an_interrupted_download_never_passes_for_a_whole_one(
    web_server: WebServer, tmp_path: Path
) -> None:
    web_server.answer = lambda handler: reply(handler, 200, BODY[:1000], Content_Length=len(BODY))
    message = refused(f"{web_server.url}/scans.zip", tmp_path / "z")
    assert "1,000 of 1,024,000 bytes came" in message or "the connection broke" in message
    assert "give the local zip" in message
    assert len(web_server.requests) <= ATTEMPTS + 1


def test_a_busy_server_is_waited_for(web_server: WebServer, tmp_path: Path) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        if len(web_server.requests) == 1:
            reply(handler, 503, b"", Retry_After="7")
        elif len(web_server.requests) <= 3:
            reply(handler, 502, b"")
        else:
            reply(handler, 200, BODY)

    web_server.answer = answer
    waits = Waits()
    download_url(web_server.url, tmp_path / "z", Limits(), sleep=waits)
    assert (tmp_path / "z").read_bytes() == BODY
    assert waits == [7.0, 2.0, 4.0]


@pytest.mark.parametrize(
    ("status", "said"),
    [(401, "needs a login"), (403, "refuses access"), (404, "has no such file")],
)
def test_a_refusal_is_final_and_shows_no_secret(
    web_server: WebServer, tmp_path: Path, status: int, said: str
) -> None:
    web_server.answer = lambda handler: reply(handler, status, b"")
    url = web_server.url.replace("//", "//me:hunter2@") + "/scans.zip?X-Amz-Signature=secret"
    message = refused(url, tmp_path / "z")
    assert said in message
    assert "/scans.zip" in message
    assert "hunter2" not in message
    assert "secret" not in message
    assert len(web_server.requests) == 1


@pytest.mark.parametrize("announced", [True, False])
def test_a_file_larger_than_allowed_is_not_stored(
    web_server: WebServer, tmp_path: Path, announced: bool
) -> None:
    length = len(BODY) if announced else None
    web_server.answer = lambda handler: reply(handler, 200, BODY, Content_Length=length)
    message = refused(web_server.url, tmp_path / "z", Limits(max_total_bytes=500_000))
    assert "max_total_bytes=500,000" in message
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 500_000


def test_no_network_is_one_sentence_after_some_attempts(tmp_path: Path) -> None:
    message = refused(f"http://127.0.0.1:{free_port()}/scans.zip", tmp_path / "z")
    assert f"no connection to the server, {ATTEMPTS} times in a row" in message
