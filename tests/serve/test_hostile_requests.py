"""Requests made to break the server: each gets a 4xx in the form of every other error."""

from __future__ import annotations

import base64
import gzip
import io
import json
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from serve.parquet_sizes import page_sizes, read_footer
from serve.table_size import check_parquet
from tests.serve.conftest import png
from tests.serve.raw_http import RawAnswer, exchange, send
from tests.serve.server_process import ROOT, ServerProcess

SCAN = base64.b64encode(png(99)).decode()
JSON, CSV, PARQUET = "application/json", "text/csv", "application/vnd.apache.parquet"


def assert_refused(answer: RawAnswer, status: int, told: str) -> None:
    assert answer.status == status, answer.body
    error = json.loads(answer.body)
    assert set(error) == {"error_code", "message"}
    assert told in error["message"]
    assert "Traceback" not in error["message"]
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def invoke(server: ServerProcess, body: bytes, kind: str = JSON, **headers: str) -> RawAnswer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return send(server, "POST", "/invocations", body, {"Content-Type": kind, **named})


def parquet(frame: pd.DataFrame, **options: Any) -> bytes:
    file = io.BytesIO()
    frame.to_parquet(file, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": b"Basic \xff"},
        {"Authorization": b"Basic /////w=="},
        {"Authorization": b"Bearer \xff"},
        {"X-API-Key": b"\xff\xfe"},
    ],
)
def test_credentials_that_are_no_text(headers: dict[str, bytes], keyed_server: Any) -> None:
    answer = send(keyed_server, "GET", "/model", headers=headers)
    assert_refused(answer, 401, "expects an API key")


@pytest.mark.parametrize("origin", [b"http://[::1", b"http://\xff][", b"null", b"]"])
def test_origins_that_are_no_url(origin: bytes, trial_server: ServerProcess) -> None:
    answer = send(trial_server, "POST", "/predict", b"x", {"Origin": origin})
    assert_refused(answer, 403, "not from other web sites")


PARAMS = {
    "text": "x",
    "list": [],
    "unknown": {"treshold": 0.4},
    "null": {"threshold": None},
    "nested": {"threshold": {}},
    "huge": {"threshold": 10**400},
    "true for a number": {"threshold": True},
    "1 for true": {"explain": 1},
    "NaN": {"threshold": float("nan")},
}


@pytest.mark.parametrize("name", PARAMS)
def test_params(name: str, trial_server: ServerProcess) -> None:
    request = {"dataframe_records": [{"image": SCAN}], "params": PARAMS[name]}
    answer = invoke(trial_server, json.dumps(request).encode())
    assert_refused(answer, 400, "threshold (double)" if name != "1 for true" else "explain")


MISPLACED = {
    "field": {"inputs": [SCAN], "threshold": 0.2},
    "column": {"dataframe_records": [{"image": SCAN, "threshold": 0.2}]},
    "column of split": {
        "dataframe_split": {"columns": ["image", "explain"], "data": [[SCAN, True]]}
    },
}


@pytest.mark.parametrize("name", MISPLACED)
def test_parameters_outside_of_params_are_not_passed_over(
    name: str, trial_server: ServerProcess
) -> None:
    answer = invoke(trial_server, json.dumps(MISPLACED[name]).encode())
    assert_refused(answer, 400, "'params'")
    csv = f"image,threshold\n{SCAN},0.2\n".encode()
    assert_refused(invoke(trial_server, csv, CSV), 400, "'params'")


ODD_JSON = {
    "long integer": (b'{"inputs": [' + b"9" * 5000 + b"]}", "thousands of digits"),
    "UTF-16": ('{"inputs": ["aGk="]}'.encode("utf-16"), "not UTF-8"),
    "lone surrogate": (b'{"inputs": ["\\ud800"]}', "do not fit"),
    "broadcast": (
        b'{"dataframe_split": {"index": [1, 2], "columns": ["image"], "data": "x"}}',
        "do not fit",
    ),
    "many names": (
        json.dumps({"dataframe_records": [{f"c{i}": "x"} for i in range(250)]}).encode(),
        "at most 16",
    ),
    "ragged": (
        b'{"dataframe_split": {"columns": ["image"], "data": [["a"], ["b", "c"]]}}',
        "one list for each scan",
    ),
    "same column twice": (
        b'{"dataframe_split": {"columns": ["image", "image"], "data": [["a", "b"]]}}',
        "another one for each column",
    ),
    "column that is no text": (
        b'{"dataframe_split": {"columns": [["image"]], "data": [["a"]]}}',
        "a name",
    ),
    "true as series": (
        b'{"instances": [{"image": "aGk=", "series": true}]}',
        "text or null in the column 'series'",
    ),
    "object as scan": (b'{"instances": [{"image": {"data": "x"}}]}', "an object with 'data'"),
    "chat": (b'{"messages": [{"role": "user", "content": "hi"}]}', "exactly one of the fields"),
}


@pytest.mark.parametrize("name", ODD_JSON)
def test_json(name: str, trial_server: ServerProcess) -> None:
    body, told = ODD_JSON[name]
    assert_refused(invoke(trial_server, body), 400, told)


@pytest.mark.parametrize(
    "request_",
    [
        {"inputs": SCAN},
        {"instances": SCAN},
        {"inputs": [[SCAN]]},
        {"inputs": {"image": SCAN}},
        {"inputs": {"b64": SCAN}},
        {"inputs": {"image": {"b64": SCAN}}},
        {"instances": [{"b64": SCAN}]},
        {"instances": [{"image": {"b64": SCAN}}]},
        {"dataframe_records": [{"image": {"b64": SCAN}}]},
        {"dataframe_records": {"image": SCAN}},
        {"dataframe_split": {"data": [[SCAN]]}},
    ],
    ids=lambda request: json.dumps(request).replace(SCAN, "scan"),
)
def test_one_scan_however_it_is_written(request_: Any, trial_server: ServerProcess) -> None:
    plain = invoke(trial_server, json.dumps({"inputs": {"image": [SCAN]}}).encode())
    answer = invoke(trial_server, json.dumps(request_).encode())
    assert plain.status == answer.status == 200
    assert answer.body == plain.body
    (row,) = json.loads(answer.body)["predictions"]
    assert row["label"] == "adenocarcinoma"


def many(rows: int) -> dict[str, tuple[bytes, str]]:
    """Return requests of `rows` scans in every form."""
    forms: dict[str, Any] = {
        "inputs": {"inputs": ["aGk="] * rows},
        "inputs by column": {"inputs": {"image": ["aGk="] * rows}},
        "instances": {"instances": ["aGk="] * rows},
        "instances of objects": {"instances": [{"image": "aGk="}] * rows},
        "dataframe_records": {"dataframe_records": [{"image": "aGk="}] * rows},
        "dataframe_split": {"dataframe_split": {"columns": ["image"], "data": [["aGk="]] * rows}},
    }
    frame = pd.DataFrame({"image": ["aGk="] * rows})
    return {name: (json.dumps(form).encode(), JSON) for name, form in forms.items()} | {
        "CSV": (frame.to_csv(index=False).encode(), CSV),
        "quoted CSV": (b"image\r\n" + b'"aG\nk="\r\n' * rows, CSV),
        "Parquet": (parquet(frame), PARQUET),
    }


@pytest.mark.parametrize("name", many(1))
def test_rows_are_limited_in_every_form(name: str, tight_server: ServerProcess) -> None:
    body, kind = many(5)[name]
    answer = invoke(tight_server, body, kind)
    assert answer.status == 200, answer.body
    assert len(json.loads(answer.body)["predictions"]) == 5
    body, kind = many(6)[name]
    assert_refused(invoke(tight_server, body, kind), 413, "at most 5 scans")


LARGE_TABLES = {
    "rows of JSON": b'{"dataframe_split": {"columns": ["image"], "data": [%s[""]]}}'
    % (b'[""],' * 4_000_000),
    "columns of JSON": b'{"dataframe_split": {"columns": [%s"a"], "data": [[]]}}'
    % (b'"a",' * 4_000_000),
    "numbers in a text's shadow": b'{"a\\"": [%s1]}' % (b"1," * 8_000_000),
}


def peak_kib(server: ServerProcess) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1])


@pytest.mark.parametrize("name", LARGE_TABLES)
def test_large_json_is_refused_before_it_is_parsed(name: str, trial_server: ServerProcess) -> None:
    invoke(trial_server, b" " * len(LARGE_TABLES[name]))  # what the bytes alone take
    before = peak_kib(trial_server)
    assert_refused(invoke(trial_server, LARGE_TABLES[name]), 413, "at most 256 scans")
    assert peak_kib(trial_server) - before < 150 * 1024  # parsed, 300 MB and more


def test_large_csv_is_refused_before_it_is_parsed(trial_server: ServerProcess) -> None:
    for body, told in {
        b"image\n" + b"a\n" * 8_000_000: "at most 256 scans",
        b'image\nb"\n' + b"a\n" * 300 + b'"\n': "at most 256 scans",  # no quoted value
        b'\xef\xbb\xbf"image"\n' + b"a\n" * 300: "at most 256 scans",
        b"image\n" + b',"' * 8_000_000: "at most 256 scans",
        b"image" + b"," * 8_000_000 + b"\na\n": "at most 16",
    }.items():
        started = time.monotonic()
        assert_refused(invoke(trial_server, body, CSV), 400 if "16" in told else 413, told)
        assert time.monotonic() - started < 10


def test_large_parquet_is_refused_before_it_is_unpacked(trial_server: ServerProcess) -> None:
    rows = parquet(pd.DataFrame({"image": pd.Series(["a"]).repeat(2_000_000)}))
    bytes_ = parquet(pd.DataFrame({"image": ["a" * 2**20] * 256}), compression="zstd")
    columns = parquet(pd.DataFrame([["a"] * 30], columns=[f"c{i}" for i in range(30)]))
    lists = parquet(pd.DataFrame({"image": [["a"] * 100_000]}))
    before = peak_kib(trial_server)
    assert max(map(len, (rows, bytes_, columns, lists))) < 200_000
    assert_refused(invoke(trial_server, rows, PARQUET), 413, "at most 256 scans")
    assert_refused(invoke(trial_server, bytes_, PARQUET), 413, "at most 64 MiB")
    assert_refused(invoke(trial_server, columns, PARQUET), 400, "at most 16")
    assert_refused(invoke(trial_server, lists, PARQUET), 400, "lists")
    assert peak_kib(trial_server) - before < 150 * 1024


def number(value: int, size: int) -> bytes:
    """Return a number as Thrift writes it, in at least so many bytes."""
    parts = [(2 * value >> shift & 127) | 128 for shift in range(0, 7 * size, 7)]
    return bytes([*parts[:-1], parts[-1] & 127])


def test_a_parquet_footer_that_lies(trial_server: ServerProcess) -> None:
    good = parquet(pd.DataFrame({"image": ["a" * (200 * 2**20)]}), compression="zstd")
    column = pq.ParquetFile(io.BytesIO(good)).metadata.row_group(0).column(0)
    said = number(column.total_uncompressed_size, 5)
    while said.endswith(b"\0") or said not in good:  # as short as it is there
        said = number(column.total_uncompressed_size, len(said) - 1)
    lying = good.replace(said, number(1000, len(said)))
    column = pq.ParquetFile(io.BytesIO(lying)).metadata.row_group(0).column(0)
    assert column.total_uncompressed_size == 1000
    before = peak_kib(trial_server)
    assert_refused(invoke(trial_server, lying, PARQUET), 413, "at most 64 MiB")
    assert peak_kib(trial_server) - before < 60 * 1024


@pytest.mark.parametrize("compression", ["NONE", "SNAPPY", "GZIP", "ZSTD", "BROTLI", "LZ4"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_pages_of_parquet_that_is_fine(compression: str, version: str) -> None:
    table = pa.table({"image": [SCAN * 50] * 200, "series": ["a", None] * 100})
    file = io.BytesIO()
    pq.write_table(
        table, file, compression=compression, data_page_version=version, data_page_size=4096,
        row_group_size=64, write_statistics=True, write_page_checksum=True,
    )  # fmt: skip
    body = file.getvalue()
    metadata = pq.ParquetFile(file).metadata
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    said = sum(group.column(i).total_uncompressed_size for group in groups for i in range(2))
    footer = read_footer(body, 2**20)
    assert (footer.rows, footer.columns, footer.flat) == (200, 2, True)
    sizes = list(page_sizes(body, footer))
    assert said - 100 * len(sizes) < sum(sizes) <= said  # headers aside
    again = pq.read_table(io.BytesIO(check_parquet(body, 200, 64 * 2**20)))
    assert again.equals(table)


def test_damaged_parquet(trial_server: ServerProcess) -> None:
    good = parquet(pd.DataFrame({"image": [SCAN, SCAN]}))
    damaged = [
        good[:40] + b"\xff" * 40 + good[80:],
        good[:-20],
        good[:-60] + bytes(50) + good[-10:],
        good[:-8] + b"\xff\xff\xff\x7fPAR1",
        b"PAR1PAR1",
        b"PAR1" + bytes(200) + b"PAR1",
        b"",
    ]
    for body in damaged:
        assert_refused(invoke(trial_server, body, PARQUET), 400, "Expected")


def test_damaged_parquet_never_ends_the_process() -> None:
    """pyarrow aborts on the metadata of some damaged columns; a child process would show it."""
    code = """
import io, random, sys
import pandas as pd
from serve.http.errors import RefusalError
from serve.table_size import check_parquet
file = io.BytesIO()
pd.DataFrame({"image": ["aGk=" * 30] * 40, "series": ["a"] * 40}).to_parquet(file)
draw, refused = random.Random(1), 0
for _ in range(1500):
    damaged = bytearray(file.getvalue())
    for _ in range(draw.randint(1, 4)):
        damaged[draw.randrange(4, len(damaged) - 8)] = draw.choice([0, 1, 127, 128, 255])
    try:
        check_parquet(bytes(damaged), 256, 2**26)
    except RefusalError as refusal:
        refused += 1
        assert refusal.status in (400, 413)
print(refused)
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=120)
    assert ended.returncode == 0, ended.stderr.decode()
    assert int(ended.stdout) > 300


def test_gzip_is_unpacked_within_the_limits(trial_server: ServerProcess) -> None:
    body = json.dumps({"inputs": [SCAN]}).encode()
    packed = invoke(trial_server, gzip.compress(body), Content_Encoding="gzip")
    assert packed.body == invoke(trial_server, body).body
    assert packed.status == 200
    for sent, status, told in (
        (gzip.compress(bytes(40 * 2**20)), 413, "at most 32 MiB"),
        (gzip.compress(body)[:-9], 400, "cut short"),
        (b"no gzip", 400, "damaged"),
    ):
        answer = invoke(trial_server, sent, Content_Encoding="gzip")
        assert_refused(answer, status, told)
    for encoding in ("br", "deflate", "zstd"):
        answer = invoke(trial_server, body, Content_Encoding=encoding)
        assert_refused(answer, 415, f"received {encoding}")
    assert_refused(invoke(trial_server, body, Content_Encoding="gzip, gzip"), 415, "another")


MALFORMED = {
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
    "no Host": b"GET /ping HTTP/1.1\r\n\r\n",
    "chunk": b"POST /predict HTTP/1.1\r\nHost: localhost\r\n"
    b"Transfer-Encoding: chunked\r\n\r\nz\r\n",
    "length": b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    "lengths": b"POST /predict HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "coding": b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n",
    "words": b"hello\r\n\r\n",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_not_http_gets_the_usual_form_of_error(
    name: str, trial_server: ServerProcess
) -> None:
    answer = exchange(trial_server, MALFORMED[name])
    assert_refused(answer, 400, "Expected an HTTP/1.1 request")
    assert answer.headers["content-type"] == "application/json"
    assert "Invalid HTTP request" not in trial_server.log()


def test_a_body_whose_length_is_declared_twice(trial_server: ServerProcess) -> None:
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n"
    answer = exchange(trial_server, head + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
    assert_refused(answer, 400, "received both")
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("POST", "/ping", "GET"), ("GET", "/invocations", "POST"), ("DELETE", "/model", "GET")],
)
def test_methods(method: str, path: str, allowed: str, trial_server: ServerProcess) -> None:
    answer = send(trial_server, method, path)
    assert_refused(answer, 405, "does not take that method")
    assert answer.headers["allow"] == allowed.lower()


@pytest.mark.parametrize("path", ["/static/%00", "/docs/%00", "/static/" + "a" * 5000, "/%ff"])
def test_paths(path: str, trial_server: ServerProcess) -> None:
    assert_refused(send(trial_server, "GET", path), 404, "nothing at this path")


def test_clients_that_write_first_can_read_the_413(trial_server: ServerProcess) -> None:
    """Python's urllib writes the whole body before it reads a byte of the answer."""
    body = bytes(40 * 2**20)

    def refused(_: int) -> int:
        headers = {"Content-Type": "application/json"}
        try:
            urlopen(Request(f"{trial_server.url}/invocations", body, headers), timeout=60).close()
        except HTTPError as error:
            with error:
                assert "at most 32 MiB" in json.load(error)["message"]
            return error.code
        return 200

    with ThreadPoolExecutor(4) as pool:
        assert Counter(pool.map(refused, range(12))) == {413: 12}


def test_no_library_writes_to_the_log(trial_server: ServerProcess) -> None:
    lines = [line for line in trial_server.log().splitlines() if line]
    assert lines
    for line in lines:
        assert line[:4].isdigit(), line  # a date: no warning, no stack trace
        assert {"INFO", "ERROR"} & set(line.split()[2:4]), line
