"""HTTP requests byte by byte, for what no client library would send."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass
from typing import Any

from tests.serve.server_process import ServerProcess


@dataclass(frozen=True)
class RawAnswer:
    """What a server sent until it closed the connection."""

    status: int
    headers: dict[str, str]
    body: bytes


def exchange(server: ServerProcess, sent: bytes) -> RawAnswer:
    """Send bytes, and read until the server closes the connection."""
    received = b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
        client.sendall(sent)
        with contextlib.suppress(ConnectionResetError):
            while part := client.recv(65536):
                received += part
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return RawAnswer(int(first.split(" ")[1]), headers, body)


def send(
    server: ServerProcess,
    method: str,
    path: str,
    body: bytes = b"",
    headers: dict[str, Any] | None = None,
) -> RawAnswer:
    """Send one request with headers of text or of bytes that are none."""
    usual = {"Host": "localhost", "Connection": "close", "Content-Length": str(len(body))}
    lines = [f"{method} {path} HTTP/1.1".encode()]
    for name, value in {**usual, **(headers or {})}.items():
        lines.append(
            name.encode() + b": " + (value if isinstance(value, bytes) else value.encode())
        )
    return exchange(server, b"\r\n".join(lines) + b"\r\n\r\n" + body)
