"""Clients made from the API's description, and the examples of the documents, used for real."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.serve.browser import CHROMIUM, DRIVER, running_browser
from tests.serve.conftest import png
from tests.serve.server_process import ServerProcess
from tests.serve.test_series import series_of
from tests.serve.test_zips import zipped
from tests.serve.trial_model import dicom

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
TESTED = re.findall(r"<!-- tested -->\n```(\w+)\n(.*?)```", DOCUMENT, re.DOTALL)
CURL, PYTHON, JAVASCRIPT, GENERATED = (text for _, text in TESTED)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the files that the examples name."""
    (tmp_path / "study").mkdir()
    slices = series_of(3)
    for name, data in slices.items():
        (tmp_path / "study" / name).write_bytes(data)
    (tmp_path / "study.zip").write_bytes(zipped(slices))
    (tmp_path / "scan.png").write_bytes(png(30))
    (tmp_path / "slice.dcm").write_bytes(dicom("1.2", 3.0, png(90)))
    return tmp_path


def run(command: list[str], folder: Path, **env: str) -> str:
    done = subprocess.run(
        command, cwd=folder, env=os.environ | env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def at(server: ServerProcess, text: str) -> str:
    assert "http://127.0.0.1:5000" in text
    return text.replace("http://127.0.0.1:5000", server.url)


def test_the_curl_examples(trial_server: ServerProcess, folder: Path) -> None:
    script = f"set -euo pipefail\n{at(trial_server, CURL)}"
    said = run(["bash", "-c", script.replace("curl ", "curl -fsS ")], folder, KEY="k")
    assert said.count('"predictions"') == 3
    assert '"file": "study.zip/IM0001.dcm"' in said
    assert (folder / "slice.png").read_bytes().startswith(b"\x89PNG")


def test_the_python_example(trial_server: ServerProcess, folder: Path) -> None:
    lines = run([sys.executable, "-c", at(trial_server, PYTHON)], folder).splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("adenocarcinoma 0.")
    assert lines[1] == "IM0000.dcm adenocarcinoma None"


@pytest.mark.skipif(not CHROMIUM or not DRIVER, reason="Chromium and its driver are not installed")
def test_the_javascript_example(trial_server: ServerProcess, tmp_path: Path) -> None:
    script = f"""
{at(trial_server, JAVASCRIPT)}
const [texts, done] = [arguments[0], arguments[arguments.length - 1]];
const files = texts.map((text, i) =>
  new File([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], `${{i}}.dcm`));
predict(files, "key").then(done, (error) => done(String(error)));
"""
    texts = [base64.b64encode(data).decode() for data in series_of(3).values()]
    with running_browser(tmp_path / "profile") as page:
        page.get(f"{trial_server.url}/ping")
        answer: dict[str, Any] = page.execute_async_script(script, texts)
        assert [row["file"] for row in answer["predictions"]] == ["0.dcm", "1.dcm", "2.dcm"]
        assert len(answer["series"]) == 1


@pytest.fixture(scope="module")
def generated(trial_server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package that openapi-python-client makes."""
    folder = tmp_path_factory.mktemp("generated")
    url = f"{trial_server.url}/openapi.json"
    (folder / "openapi.json").write_bytes(requests.get(url, timeout=10).content)
    tool = str(Path(sys.executable).with_name("openapi-python-client"))
    options = ["--path", "openapi.json", "--meta", "none", "--output-path", "chest_ct"]
    run([tool, "generate", *options], folder, NO_COLOR="1")
    return folder


def test_a_generated_client(trial_server: ServerProcess, folder: Path, generated: Path) -> None:
    said = run(
        [sys.executable, "-c", at(trial_server, GENERATED)], folder, PYTHONPATH=str(generated)
    )
    label, probability, file = said.split()
    assert (label, file) == ("adenocarcinoma", "IM0000.dcm")
    assert 0 < float(probability) < 1


MORE = """
from chest_ct import Client
from chest_ct.api.model import get_model
from chest_ct.api.operation import get_version, ready
from chest_ct.api.scoring import invocations, predict
from chest_ct.models import Error, PredictBody, RecordsRequest, Rows, ScanRecord

client = Client("http://127.0.0.1:5000")
about = get_model.sync(client=client)
assert about.healthy_classes == ["normal"] and about.max_slices == 1000
assert ready.sync_detailed(client=client).status_code == 200
records = RecordsRequest(dataframe_records=[ScanRecord(image="aGk=")])
rows = invocations.sync(client=client, body=records)
assert isinstance(rows, Rows) and rows.predictions[0].error_code == "unknown_format"
refused = predict.sync_detailed(client=client, body=PredictBody(files=[]))
assert isinstance(refused.parsed, Error), refused
assert refused.parsed.message.startswith("Expected ") and refused.parsed.error_code
"""


def test_a_generated_client_knows_models_rows_and_errors(
    trial_server: ServerProcess, folder: Path, generated: Path
) -> None:
    run([sys.executable, "-c", at(trial_server, MORE)], folder, PYTHONPATH=str(generated))


# Any bytes are a file to the description: only the decoder can say which are a scan, and /pixels
# answers the others with 422. The seed is fixed, so that a run can be repeated.
SCHEMATHESIS = """
[[operations]]
include-path = "/pixels"
checks.positive_data_acceptance.expected-statuses = ["2xx", "422"]
"""


@pytest.mark.slow
def test_schemathesis_finds_nothing(trial_server: ServerProcess, tmp_path: Path) -> None:
    tool = str(Path(sys.executable).with_name("st"))
    config = tmp_path / "schemathesis.toml"
    config.write_text(SCHEMATHESIS)
    command = [tool, "--config-file", str(config), "run", f"{trial_server.url}/openapi.json"]
    command += ["--max-examples", "20", "--phases", "examples,coverage,fuzzing", "--seed", "1"]
    done = subprocess.run(
        [*command, "--workers", "1", "--no-color"],
        cwd=tmp_path, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:]
