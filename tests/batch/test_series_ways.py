"""A series gets the same answer from Python, over HTTP, and from the batch job, local or Spark.

A network of 32 pixels answers drawn and real series. With `CHEST_CT_MODEL`, the folder of a model
that was trained on patients, that model answers the real ones too:

    CHEST_CT_MODEL=artifacts/training/model pytest -m slow -k trained tests/batch
"""

from __future__ import annotations

import importlib.util
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from scans.phantom.patients import write_phantom_patients
from tests.batch.conftest import Bucket
from tests.model.test_series import slice_at, thin_slices
from tests.series_ways import (
    Answers,
    assert_same,
    dicom_in_zips,
    of_batch,
    of_invocations,
    of_predict,
    of_python,
)
from tests.serve.server_process import ServerProcess, running_serve

pytestmark = pytest.mark.slow

ZIPS = ("LIDC-small.zip", "Lung-Dx.zip", "COVID-19-NY-SBU.zip")
ROWS_A_CALL = 16  # of /invocations: a series comes in several calls


def drawn(folder: Path) -> dict[str, bytes]:
    """Phantom patients, a thin series, one slice alone and a series of broken slices, mixed."""
    write_phantom_patients(folder / "files", folder / "masks", patients=6)
    files = {path.name: path.read_bytes() for path in (folder / "files").rglob("*.dcm")}
    files |= {f"thin-{n:03d}.dcm": data for n, data in enumerate(thin_slices())}
    files |= {"alone-1.dcm": slice_at(4.0, series="1.2.826.0.1.8")}
    broken = [slice_at(5.0 * n, series="1.2.826.0.1.9") for n in range(3)]
    files |= {f"broken-{n}.dcm": data[:-3000] for n, data in enumerate(broken)}
    names = sorted(files)
    random.Random(1).shuffle(names)
    return {name: files[name] for name in names}


@pytest.fixture(scope="module")
def real() -> dict[str, bytes]:
    """Real slices by name, none where there are no data: one job for all, since Spark is slow."""
    data = os.environ.get("CHEST_CT_DATA")
    return dicom_in_zips(*(Path(data, name) for name in ZIPS)) if data else {}


@pytest.fixture(scope="module", params=["small", "trained"])
def model(request: pytest.FixtureRequest, real: dict[str, bytes]) -> Path:
    if request.param == "small":
        small: Path = request.getfixturevalue("small_model")
        return small
    folder = os.environ.get("CHEST_CT_MODEL")
    if not folder or not real:
        pytest.skip("CHEST_CT_MODEL and CHEST_CT_DATA do not name a trained model and real series")
    return Path(folder).resolve()


@pytest.fixture(scope="module")
def files(
    model: Path, small_model: Path, real: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    return drawn(tmp_path_factory.mktemp("drawn")) | real if model == small_model else real


@pytest.fixture(scope="module")
def expected(model: Path, files: dict[str, bytes]) -> Answers:
    answers = of_python(model, files)
    assert len({answer["probability"] for answer in answers.values()}) > 5
    return answers


@pytest.fixture(scope="module")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running_serve(model, tmp_path_factory.mktemp("server")) as started:
        yield started


def test_real_series_are_among_them(real: dict[str, bytes], expected: Answers) -> None:
    if not real:
        pytest.skip("CHEST_CT_DATA does not name a folder of real series")
    # Lung-PET-CT-Dx has series of 30, 30 and 64 slices; 12 of LIDC-IDRI are 1.25 mm apart.
    counts = [(answer["slices"], answer["scored"]) for answer in expected.values()]
    assert {(30, 30), (64, 64), (12, 6)} <= set(counts)
    assert counts.count((30, 30)) == 2


def test_http(
    server: ServerProcess, model: Path, files: dict[str, bytes], expected: Answers
) -> None:
    assert_same(of_invocations(server.url, model, files, ROWS_A_CALL), expected)
    assert_same(of_predict(server.url, files), expected)


def test_batch_on_s3(
    model: Path,
    files: dict[str, bytes],
    expected: Answers,
    bucket: Bucket,
    tmp_path: Path,
) -> None:
    found = of_batch(model, files, bucket, tmp_path, "--batch-size", "7")
    assert_same(found, expected)


@pytest.mark.skipif(
    importlib.util.find_spec("pyspark") is None or shutil.which("java") is None,
    reason="needs pyspark (pip install -r requirements-spark.txt) and Java 17 (`java` on PATH)",
)
def test_batch_on_spark(
    model: Path,
    files: dict[str, bytes],
    expected: Answers,
    bucket: Bucket,
    tmp_path: Path,
) -> None:
    options = ("--engine", "spark", "--master", "local-cluster[2,1,2048]")
    assert_same(of_batch(model, files, bucket, tmp_path, *options), expected)
