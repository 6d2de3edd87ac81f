"""The real pyfunc's series: the job answers as a Python caller is answered, on either engine."""

from __future__ import annotations

import random
from collections.abc import Iterator
from io import BytesIO
from itertools import groupby
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydicom import dcmread

from batch import spark, spark_series
from batch.locations import Access, Location
from batch.model_process import ModelProcess
from batch.pyfunc import pinned_model
from batch.series.answers import MadeFrom
from batch.settings import Concurrency, JobSettings
from batch.store.stores import FolderStore
from batch.table.output import Output
from batch.table.parts import schema_of
from tests.batch.conftest import Run, keep_model, runner
from tests.model.test_series import broken_at, slice_at, thin_slices

OTHER = "1.2.826.0.1.8"
BROKEN = "1.2.826.0.1.9"
SAME = ["label", "undecided", "error", "slices", "scored", "skipped", "failed", "key_position_mm",
        "first_mm", "last_mm", "gaps", "duplicate_positions", "note"]  # fmt: skip


@pytest.fixture(scope="module")
def small_process(small_model: Path) -> Iterator[ModelProcess]:
    """Yield the real pyfunc in a process."""
    with pinned_model(str(small_model)) as pinned, ModelProcess(pinned) as process:
        yield process


@pytest.fixture
def run_small(
    small_process: ModelProcess,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Return a function that runs the command in this process."""
    keep_model(small_process, monkeypatch)
    return runner(tmp_path, monkeypatch, capsys)


@pytest.fixture
def images() -> list[bytes]:
    """Return slices of three series, thin, thick and broken, in no order."""
    thick = [slice_at(5.0 * n, 7, OTHER) for n in range(12)]
    broken = [broken_at(1.0).replace(b"1.2.826.0.1.7", BROKEN.encode())]
    made = [*thin_slices(), *thick, *broken, b"no scan"]
    random.Random(0).shuffle(made)
    return made


@pytest.fixture
def scored(
    images: list[bytes], tmp_path: Path, run_small: Run, small_model: Path
) -> tuple[Path, Path]:
    """Return input and output of a job on these slices."""
    scans, out = tmp_path / "scans", tmp_path / "out"
    scans.mkdir()
    for n, image in enumerate(images):
        (scans / f"{n:03d}").write_bytes(image)
    run = (scans, out, "--model-uri", small_model, "--no-tracking", "--batch-size", 16)
    result = run_small(*run)
    assert result.code == 1, result.err
    assert result.summary["series"] == 3
    return scans, out


def test_the_job_answers_series_as_a_python_caller_is_answered(
    images: list[bytes], scored: tuple[Path, Path], small_model: Path
) -> None:
    scans, out = scored
    model: Any = mlflow.pyfunc.load_model(str(small_model))
    frame = pd.DataFrame({"image": pd.Series(images, dtype=object)})
    rows = model.predict(frame, params={"series": True})
    assert (rows["skipped"] == True).sum() > 20  # noqa: E712 - objects
    expected = model.unwrap_python_model().series_rows(rows).to_dict("records")
    found = pq.read_table(out / "series/part-00000.parquet").to_pylist()
    by_name = {row["series_uid"]: row for row in found}
    assert set(by_name) == {row["series"] for row in expected} == {OTHER, BROKEN, "1.2.826.0.1.7"}
    for row in expected:
        answer = by_name[row["series"]]
        assert {name: answer[name] for name in SAME} == {name: row[name] for name in SAME}
        for name in ("probability", "p_adenocarcinoma", "p_normal", "out_of_domain_share"):
            assert answer[name] == (None if row[name] is None else pytest.approx(row[name]))
        key = row["key_slice"]
        uri = None if key is None else (scans / f"{key:03d}").as_uri()
        assert answer["key_slice_uri"] == uri
    slices = pq.read_table(out / "part-00000.parquet").to_pylist()
    alone = model.predict(frame)
    for number, row in enumerate(sorted(slices, key=lambda row: row["uri"])):
        assert row["label"] == alone["label"][number], "each slice has the answer it has alone"
        assert row["series_uid"] == rows["series"][number]
        assert row["position_mm"] == rows["position_mm"][number]
        image = images[number]
        study = dcmread(BytesIO(image), force=True).get("StudyInstanceUID")
        assert row["study_uid"] == study
    assert {row["study_uid"] for row in found} == {row["study_uid"] for row in slices} - {None}


def test_executors_answer_as_this_machine_does(
    scored: tuple[Path, Path], small_process: ModelProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans, out = scored
    pinned = small_process.pinned
    monkeypatch.setitem(spark._models, pinned.digest, small_process)
    schema = schema_of(small_process.columns)
    job = JobSettings(
        Location.parse(str(scans)), Location.parse(str(out)), "unused", Access(), Concurrency(8, 2)
    )
    task = spark.Task(job, pinned, "m.zip", schema)
    output = Output(FolderStore(out), "parquet", schema)
    output.load()
    parts, split = 1, 3
    keyed = [
        pair
        for number in output.numbers
        for pair in spark_series.keyed_slices(number, task, parts, split)
    ]
    partitions = {key[0] for key, _ in keyed}
    assert partitions <= set(range(parts * split))
    expected = pq.read_table(out / "series/part-00000.parquet")
    made_from = MadeFrom(pinned.uri, pinned.digest, expected["slices_digest"][0].as_py())
    tables = [
        pa.ipc.open_stream(data).read_all()
        for _partition, of in groupby(sorted(keyed), key=lambda pair: pair[0][0])
        for data in spark_series.answered(of, task, made_from)
    ]
    assert pa.concat_tables(tables).sort_by("series_uid").equals(expected)
