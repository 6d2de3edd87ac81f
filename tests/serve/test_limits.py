"""Bytes, rows, places and time that one client can take."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

import pytest
import requests
import uvicorn
from starlette.types import Message, Receive, Scope, Send

from serve.http.bodies import read_body
from serve.http.errors import RefusalError
from serve.http.http1 import TimedHeadersProtocol
from serve.http.places import Pool, take_place
from serve.http.request_limits import RequestLimits
from tests.s3_server import free_port
from tests.serve.conftest import png
from tests.serve.gate import Gate
from tests.serve.server_process import ServerProcess

MEBIBYTE = 1024 * 1024


def predict(server: ServerProcess, *scans: bytes) -> requests.Response:
    files = [("files", (f"{i}.png", scan)) for i, scan in enumerate(scans)]
    return requests.post(f"{server.url}/predict", files=files, timeout=60)


def test_a_large_body_is_refused_before_it_is_sent(tight_server: ServerProcess) -> None:
    with socket.create_connection(("127.0.0.1", tight_server.port), timeout=30) as client:
        head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {MEBIBYTE + 1}\r\n\r\n"
        client.sendall(head.encode())
        assert client.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_a_large_body_of_unknown_length_is_cut_off(tight_server: ServerProcess) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 200 * MEBIBYTE:
            sent += MEBIBYTE // 4
            yield bytes(MEBIBYTE // 4)

    headers = {"Content-Type": "application/json"}
    with contextlib.suppress(requests.ConnectionError):  # the server hangs up on it
        url = f"{tight_server.url}/invocations"
        answer = requests.post(url, data=endless(), headers=headers, timeout=60)
        assert answer.status_code == 413
    assert sent < 100 * MEBIBYTE
    assert predict(tight_server, png(9)).status_code == 200


def test_a_client_that_sends_first_still_reads_the_reason(tight_server: ServerProcess) -> None:
    answer = predict(tight_server, bytes(2 * MEBIBYTE))
    assert answer.status_code == 413
    assert "at most 1 MiB" in answer.json()["message"]


def test_rows(tight_server: ServerProcess) -> None:
    assert predict(tight_server, *[png(9)] * 5).status_code == 200
    table = {"dataframe_split": {"columns": ["image"], "data": [["x"]] * 6}}
    refused = [
        predict(tight_server, *[png(9)] * 6),
        requests.post(f"{tight_server.url}/invocations", json=table, timeout=60),
    ]
    for answer in refused:
        assert answer.status_code == 413
        assert "at most 5 scans" in answer.json()["message"]


def test_more_requests_than_places(tight_server: ServerProcess, gate: Gate) -> None:
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(predict, tight_server, gate.scan) for _ in range(8)]
        wait(asked, return_when=FIRST_COMPLETED)  # one without a place
        gate.open()
        answers = [future.result() for future in asked]
    statuses = sorted(answer.status_code for answer in answers)
    assert set(statuses) == {200, 503}
    busy = next(answer for answer in answers if answer.status_code == 503)
    assert int(busy.headers["Retry-After"]) > 0
    assert busy.json()["error_code"] == "TEMPORARILY_UNAVAILABLE"
    assert requests.get(f"{tight_server.url}/ping", timeout=10).status_code == 200


def test_an_answer_that_takes_too_long(
    tight_server: ServerProcess, gate: Gate, tmp_path: Path
) -> None:
    assert predict(tight_server, gate.scan).status_code == 504
    # The thread still works on it and keeps its place, so one of two more requests is refused.
    other = Gate(tmp_path, "other")
    with ThreadPoolExecutor(2) as pool:
        more = [pool.submit(predict, tight_server, other.scan) for _ in range(2)]
        wait(more, return_when=FIRST_COMPLETED)
        other.open()
        assert sorted(future.result().status_code for future in more) == [200, 503]
    gate.open()
    while (answer := predict(tight_server, png(9), b"sleep 0")).status_code == 503:
        time.sleep(0.02)
    assert answer.status_code == 200


def test_health_answers_while_scans_are_scored(tight_server: ServerProcess, gate: Gate) -> None:
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(predict, tight_server, gate.scan)
        gate.wait_until_begun(1)
        assert requests.get(f"{tight_server.url}/health", timeout=5).status_code == 200
        assert not slow.done()
        gate.open()
        assert slow.result().status_code == 200


def read(
    messages: list[tuple[float, Message]], limits: RequestLimits, memory: Pool | None = None
) -> bytes:
    """Return what `read_body` makes of messages that arrive after the delays given, in seconds."""
    waiting = iter(messages)

    async def receive() -> Message:
        delay_s, message = next(waiting)
        await asyncio.sleep(delay_s)
        return message

    most, grace_s = limits.max_body_bytes, limits.body_grace_s
    return b"".join(asyncio.run(read_body(receive, most, grace_s, memory or Pool(10**9))))


def part(size: int, more: bool = True) -> Message:
    return {"type": "http.request", "body": bytes(size), "more_body": more}


def test_a_body_may_be_slow_but_not_too_slow() -> None:
    limits = RequestLimits(max_body_bytes=100_000, body_grace_s=0.2)
    # 20 kB earn 4 s more, at 5 kB a second.
    assert len(read([(0.0, part(20_000)), (0.4, part(10, more=False))], limits)) == 20_010
    with pytest.raises(RefusalError) as refusal:
        read([(0.0, part(10)), (5.0, part(10, more=False))], limits)
    assert refusal.value.status == 408
    with pytest.raises(RefusalError) as refusal:
        read([(0.0, part(100_001))], limits)
    assert refusal.value.status == 413


def test_bodies_of_all_requests_together_are_bounded() -> None:
    memory = Pool(100)
    assert memory.take(60, {})
    with pytest.raises(RefusalError) as refusal:
        read([(0.0, part(30)), (0.0, part(30, more=False))], RequestLimits(), memory)
    assert refusal.value.status == 503
    assert memory.used == 60
    assert len(read([(0.0, part(40, more=False))], RequestLimits(), memory)) == 40
    assert memory.used == 100


def test_a_place_is_free_when_its_last_holder_lets_go() -> None:
    places = Pool(1)
    place = take_place(places, {})
    assert place is not None
    assert take_place(places, {}) is None
    assert place.hold()
    place.release()
    assert places.full()
    place.release()
    assert not places.full()
    assert not place.hold()


@contextlib.contextmanager
def impatient_server() -> Iterator[int]:
    """Run a bare application behind our HTTP/1.1 protocol with a short time limit on headers."""

    class Impatient(TimedHeadersProtocol):
        headers_timeout_s = 0.5

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(1)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    port = free_port()
    config = uvicorn.Config(app, port=port, http=Impatient, lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield port
    finally:
        server.should_exit = True
        thread.join()


def test_connections_without_a_whole_request_are_closed() -> None:
    with impatient_server() as port:
        for start in (b"", b"GET / HTTP/1.1\r\nHost:"):
            with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
                client.sendall(start)
                with contextlib.suppress(ConnectionResetError):
                    assert client.recv(100) == b""
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            # An answer may take longer than headers may.
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 204")
            client.sendall(b"GET / HTTP")
            with contextlib.suppress(ConnectionResetError):
                assert client.recv(100) == b""
