"""The pyfunc behind `mlflow models serve`, over HTTP."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
import requests

from tests.model.small_model import phantom_png
from tests.model.test_pyfunc import bodies
from tests.serve.server_process import ServerProcess, running_mlflow

TIMEOUT_S = 120


@pytest.fixture(scope="module")
def server(small_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running_mlflow(small_model, tmp_path_factory.mktemp("server")) as process:
        yield process


@pytest.fixture(scope="module")
def scans() -> list[bytes]:
    return [phantom_png(seed, nodule=seed % 2 == 0) for seed in range(24)]


@pytest.fixture(scope="module")
def expected(small_model: Path, scans: list[bytes]) -> list[dict[str, Any]]:
    """The rows that Python gets."""
    model = mlflow.pyfunc.load_model(str(small_model))
    rows: list[dict[str, Any]] = model.predict(pd.DataFrame({"image": scans})).to_dict("records")
    return rows


def text(scan: bytes) -> str:
    return base64.b64encode(scan).decode("ascii")


def ask(server: ServerProcess, body: str, content_type: str) -> list[dict[str, Any]]:
    answer = requests.post(
        f"{server.url}/invocations", body, headers={"Content-Type": content_type}, timeout=TIMEOUT_S
    )
    assert answer.status_code == 200, answer.text[:300]
    rows: list[dict[str, Any]] = json.loads(
        answer.text, parse_constant=lambda name: pytest.fail(f"{name} in the answer")
    )["predictions"]
    return rows


def assert_rows(rows: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> None:
    assert [row["label"] for row in rows] == [row["label"] for row in wanted]
    for name in ("probability", "p_adenocarcinoma", "p_normal"):
        assert [r[name] for r in rows] == pytest.approx([w[name] for w in wanted], abs=1e-6)


def test_every_form_gets_the_rows_that_python_gets(
    server: ServerProcess, scans: list[bytes], expected: list[dict[str, Any]]
) -> None:
    images = [text(scan) for scan in scans[:3]]
    csv = pd.DataFrame({"image": images}).to_csv(index=False)
    for body, content_type in [*bodies(list(images)), (csv, "text/csv")]:
        assert_rows(ask(server, body, content_type), expected[:3])


def test_a_bad_scan_is_a_row_with_nulls_and_its_error(
    server: ServerProcess, scans: list[bytes], expected: list[dict[str, Any]]
) -> None:
    bad, good = ask(
        server,
        json.dumps({"inputs": {"image": ["bm8gc2Nhbg==", text(scans[0])]}}),
        "application/json",
    )
    assert bad["error"]
    assert {bad[name] for name in bad if name not in ("error", "error_code")} == {None}
    assert_rows([good], expected[:1])


def test_ping_and_health(server: ServerProcess) -> None:
    for path in ("ping", "health"):
        assert requests.get(f"{server.url}/{path}", timeout=TIMEOUT_S).status_code == 200


def test_eight_clients_at_once_get_right_answers(
    server: ServerProcess, scans: list[bytes], expected: list[dict[str, Any]]
) -> None:
    def client(number: int) -> None:
        for turn in range(4):
            chosen = [(5 * number + 3 * turn + i) % len(scans) for i in range(1 + turn)]
            body = json.dumps({"inputs": {"image": [text(scans[i]) for i in chosen]}})
            assert_rows(ask(server, body, "application/json"), [expected[i] for i in chosen])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(client, range(8)))
