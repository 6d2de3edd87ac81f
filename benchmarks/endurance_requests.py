"""The requests of the endurance test: good ones, mistakes, and ones made to break a server."""

from __future__ import annotations

import base64
import gzip
import io
import json
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from PIL import Image

from benchmarks.hostile_kinds import KINDS
from scans.phantom.drawing import make_phantom

BOUNDARY = "endurance"
FORM = f"multipart/form-data; boundary={BOUNDARY}"
JSON, CSV, PARQUET = "application/json", "text/csv", "application/vnd.apache.parquet"
MAX_ROWS = 256  # the server's default
MAX_FILE_BYTES = 31 * 2**20  # so that the request is within the server's default
FOUR_AT_ONCE = ("TIFF float32 of 33 million", "DICOM deflated of 33 million")


@dataclass(frozen=True)
class Request:
    """One request, and the statuses that are a right answer to it.

    Args:
        name: what it is.
        path: of the URL.
        body: what is sent.
        headers: with the content type.
        statuses: the right ones; 503 (no place free) is one as well.
        hang_up_after_s: close the connection then instead of reading the answer.
        raw: bytes to send instead of a request that a library makes.
    """

    name: str
    path: str
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    statuses: tuple[int, ...] = (200,)
    hang_up_after_s: float | None = None
    raw: bytes = b""


def upload(*files: tuple[str, bytes], fields: dict[str, str] | None = None) -> bytes:
    """Return a multipart body."""
    parts = b""
    for name, text in (fields or {}).items():
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'
        parts += head.encode() + text.encode() + b"\r\n"
    for name, data in files:
        head = f'Content-Disposition: form-data; name="files"; filename="{name}"'
        parts += f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode() + data + b"\r\n"
    return parts + f"--{BOUNDARY}--\r\n".encode()


def predict(name: str, *scans: bytes, statuses: tuple[int, ...] = (200,), **more: Any) -> Request:
    """Return an upload of scans."""
    files = [(f"{i}.png", scan) for i, scan in enumerate(scans)]
    body = upload(*files, fields=more.pop("fields", None))
    path = "/predict" + more.pop("query", "")
    return Request(name, path, body, {"Content-Type": FORM}, statuses, **more)


def invocations(
    name: str, body: bytes, kind: str = JSON, statuses: tuple[int, ...] = (200,), **headers: str
) -> Request:
    """Return a request of MLflow's scoring API."""
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return Request(name, "/invocations", body, {"Content-Type": kind, **named}, statuses)


def as_json(request: Any) -> bytes:
    """Return a request as JSON."""
    return json.dumps(request).encode()


def as_parquet(frame: pd.DataFrame, **options: Any) -> bytes:
    """Return a table as Parquet."""
    file = io.BytesIO()
    frame.to_parquet(file, **options)
    return file.getvalue()


def drawn_scans(seed: int, count: int) -> list[bytes]:
    """Return phantoms as PNG and JPEG files, in turn."""
    scans = []
    for i in range(count):
        picture = Image.fromarray(make_phantom((seed, i), nodule=bool(i % 2)).image)
        file = io.BytesIO()
        picture.save(file, "PNG" if i % 3 else "JPEG")
        scans.append(file.getvalue())
    return scans


def good(seed: int) -> list[Request]:
    """Return requests that a client may well send, in every form that the server takes."""
    scans = drawn_scans(seed, 24)
    texts = [base64.b64encode(scan).decode() for scan in scans]
    requests = []
    for i in range(0, 24, 4):
        four, text = scans[i : i + 4], texts[i : i + 4]
        table = pd.DataFrame({"image": text})
        split = as_json({"dataframe_split": {"columns": ["image"], "data": [[t] for t in text]}})
        requests += [
            predict("one file", scans[i]),
            predict("four files, one broken", *four[:3], b"no scan"),
            predict("threshold in the query", scans[i + 1], query="?threshold=0.3"),
            predict("threshold in the form", scans[i + 2], fields={"threshold": "0.6"}),
            invocations("records", as_json({"dataframe_records": [{"image": t} for t in text]})),
            invocations("split", split),
            invocations("inputs", as_json({"inputs": text, "params": {"threshold": 0.4}})),
            invocations("instances", as_json({"instances": [{"b64": t} for t in text[:2]]})),
            invocations("CSV", table.to_csv(index=False).encode(), CSV),
            invocations("Parquet", as_parquet(table), PARQUET),
            invocations("gzip", gzip.compress(split), Content_Encoding="gzip"),
        ]
    return requests


def bad(seed: int) -> list[Request]:
    """Return the mistakes that clients make."""
    (scan,) = drawn_scans(seed + 1, 1)
    text = base64.b64encode(scan).decode()
    return [
        invocations("not JSON", b'{"inputs": [', statuses=(400,)),
        invocations("another column", as_json({"dataframe_records": [{"scan": text}]}),
                    statuses=(400,)),
        invocations("mistyped parameter", as_json({"inputs": [text], "params": {"treshold": 1}}),
                    statuses=(400,)),
        invocations("another content type", b"x", "text/plain", statuses=(415,)),
        invocations("too many rows", as_json({"inputs": ["aGk="] * (MAX_ROWS + 1)}),
                    statuses=(413,)),
        invocations("another encoding", b"x", statuses=(415,), Content_Encoding="br"),
        predict("no file", statuses=(400,)),
        predict("a parameter of words", scan, query="?threshold=much", statuses=(400,)),
        predict("files that are no scans", b"", b"hello", scan[: len(scan) // 2]),
        Request("nothing there", "/scans", b"x", {"Content-Type": FORM}, (404,)),
        Request("another method", "/ping", b"", {}, (405,)),
    ]  # fmt: skip


def hostile_pictures(scan: bytes) -> list[Request]:
    """Return uploads of files made to take a decoder's memory or time, beside a good one."""
    answered = (200, 400, 413, 504)  # a row that says why, or a refusal of the whole
    made = {name: make() for name, make in KINDS.items()}
    fitting = {name: data for name, data in made.items() if len(data) < MAX_FILE_BYTES}
    requests = [predict(name, data, scan, statuses=answered) for name, data in fitting.items()]
    four = [predict(f"four: {name}", *[made[name]] * 4, statuses=answered) for name in FOUR_AT_ONCE]
    return requests + four


def hostile(seed: int) -> list[Request]:
    """Return requests made to take memory, time or places, or to make the server fail."""
    (scan,) = drawn_scans(seed + 2, 1)
    text = base64.b64encode(scan).decode()
    rows = pd.DataFrame({"image": pd.Series(["a"]).repeat(10**7)})
    repeated = pd.DataFrame({"image": ["a" * 2**20] * MAX_ROWS})
    refused = (400, 413)
    return [
        *hostile_pictures(scan),
        invocations("7 million rows of JSON", b'{"dataframe_split": {"columns": ["image"], '
                    b'"data": [' + b"[1]," * 6_900_000 + b"[1]]}}", statuses=refused),
        invocations("a million columns", as_json({"dataframe_split": {
            "columns": [f"c{i}" for i in range(10**6)], "data": []}}), statuses=refused),
        invocations("10 million rows of Parquet", as_parquet(rows), PARQUET, statuses=refused),
        invocations("256 MB in 2 kB of Parquet", as_parquet(repeated, compression="zstd"), PARQUET,
                    statuses=refused),
        invocations("damaged Parquet", b"PAR1" + bytes(200) + b"PAR1", PARQUET, statuses=refused),
        invocations("10 million rows of CSV", b"image\n" + b"a\n" * 10**7, CSV, statuses=refused),
        invocations("a gzip bomb", gzip.compress(bytes(2**28)), statuses=refused,
                    Content_Encoding="gzip"),
        invocations("an integer of 5,000 digits", b'{"inputs": [' + b"9" * 5000 + b"]}",
                    statuses=refused),
        invocations("params of text", as_json({"inputs": [text], "params": "x"}), statuses=refused),
        invocations("brackets", b"[" * 10**6, statuses=refused),
        Request("a body over the limit", "/series", bytes(40 * 2**20), {"Content-Type": FORM},
                (413,)),
        Request("an origin that is none", "/predict", b"x", {"Origin": "http://[::1"}, (403,)),
        Request("a name that is not ours", "/predict", b"x", {"Host": "evil.example"}, (421,)),
        Request("lengths twice", "/", raw=b"POST /predict HTTP/1.1\r\nHost: localhost\r\n"
                b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                statuses=(400,)),
        Request("not HTTP", "/", raw=b"\x16\x03\x01\x02\x00\r\n\r\n", statuses=(400,)),
        Request("headers without an end", "/", raw=b"GET / HTTP/1.1\r\nHost:", hang_up_after_s=2),
        Request("a body that stops", "/", raw=b"POST /predict HTTP/1.1\r\nHost: localhost\r\n"
                b"Content-Length: 9000000\r\n\r\n" + bytes(500), hang_up_after_s=2),
        predict("hangs up on 200 scans", *[scan] * 200, hang_up_after_s=0.5),
    ]  # fmt: skip
