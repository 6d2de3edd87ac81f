"""Faults of the store, and mistakes of the user."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.batch.conftest import Bucket, Run, png
from tests.batch.fault_proxy import fault_proxy, seldom
from tests.s3_server import READ_ONLY, free_port


@pytest.mark.slow
def test_throttling_errors_resets_truncation_and_corruption_cost_no_row(
    bucket: Bucket, run_here: Run, stand_in_model: Path
) -> None:
    bucket.put({f"scans/{n:03d}.png": png(n) for n in range(120)})
    faults = ("503", "500", "reset", "truncate", "corrupt", "delay")
    choose = seldom(0.12, seed=7, faults=faults, prefix=f"/{bucket.name}/scans/")
    with fault_proxy(bucket.server.endpoint_url, choose) as proxy:
        result = run_here(
            f"s3://{bucket.name}/scans/", f"s3://{bucket.name}/scores/",
            "--model-uri", stand_in_model, "--no-tracking",
            "--endpoint-url", proxy.endpoint_url,
        )  # fmt: skip
    assert all(proxy.injected[fault] for fault in faults), proxy.injected
    assert result.code == 0, result.err
    assert result.summary["rows"] == result.summary["rows_scored"] == 120
    assert bucket.table("scores/")["error"].null_count == 120


def test_faults_while_writing_leave_whole_parts_and_one_row_each(
    bucket: Bucket, run_here: Run, stand_in_model: Path
) -> None:
    bucket.put({f"scans/{n:03d}.png": png(n) for n in range(300)})
    faults = ("503", "500", "reset", "lost")  # lost: written, but the answer never arrives
    choose = seldom(0.3, seed=3, faults=faults, prefix=f"/{bucket.name}/scores/")
    with fault_proxy(bucket.server.endpoint_url, choose) as proxy:
        result = run_here(
            f"s3://{bucket.name}/scans/", f"s3://{bucket.name}/scores/",
            "--model-uri", stand_in_model, "--no-tracking",
            "--endpoint-url", proxy.endpoint_url,
        )  # fmt: skip
    assert proxy.injected["lost"]
    assert result.code == 0, result.err
    table = bucket.table("scores/")
    assert table.num_rows == len(set(table["uri"].to_pylist())) == 300


def test_an_object_that_never_arrives_whole_gets_a_row(
    bucket: Bucket, run_here: Run, stand_in_model: Path
) -> None:
    bucket.put({f"scans/{n}.png": png(n) for n in range(5)})
    arguments = (
        f"s3://{bucket.name}/scans/", f"s3://{bucket.name}/scores/",
        "--model-uri", stand_in_model, "--no-tracking",
    )  # fmt: skip

    def choose(method: str, path: str) -> str:
        return "truncate" if path.endswith("/2.png") else "none"

    with fault_proxy(bucket.server.endpoint_url, choose) as proxy:
        result = run_here(*arguments, "--endpoint-url", proxy.endpoint_url)
    assert result.code == 1
    assert result.summary["errors"] == {"read_failed": 1}
    assert run_here(*arguments).summary["objects_read"] == 0
    assert run_here(*arguments, "--retry-failed").code == 0


def test_credentials_that_expire_on_the_way_stop_the_job_and_keep_its_rows(
    bucket: Bucket, run_here: Run, stand_in_model: Path
) -> None:
    bucket.put({f"scans/{n:03d}.png": png(n) for n in range(150)})
    arguments = (
        f"s3://{bucket.name}/scans/", f"s3://{bucket.name}/scores/",
        "--model-uri", stand_in_model, "--no-tracking",
    )  # fmt: skip

    def choose(method: str, path: str) -> str:
        late = path.startswith(f"/{bucket.name}/scans/") and path > f"/{bucket.name}/scans/100"
        return "expired" if late else "none"

    with fault_proxy(bucket.server.endpoint_url, choose) as proxy:
        stopped = run_here(*arguments, "--endpoint-url", proxy.endpoint_url)
        read = proxy.reads_of(f"/{bucket.name}/scans/")
    assert stopped.code == 2
    assert "credentials have expired" in stopped.err
    summary = run_here(*arguments).summary
    assert summary["rows"] == 150
    assert summary["rows_with_errors"] == 0
    assert summary["objects_skipped"] > 0
    assert read - summary["objects_skipped"] < 256


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"credentials": None}, "no usable AWS credentials"),
        ({"credentials": ("AKWRONG", "SKWRONG")}, "does not accept the AWS credentials"),
        ({"credentials": READ_ONLY}, "no permission"),
        ({"input": "s3://no-such-bucket-here/scans/"}, "bucket does not exist"),
        ({"output": "s3://no-such-bucket-here/scores/"}, "bucket does not exist"),
        ({"input": "s3://{bucket}/nothing/"}, "There are no objects"),
        ({"output": "s3://{bucket}/scans/scores/"}, "lie inside one another"),
        ({"model": "models:/none/Production"}, "Cannot find or fetch the model models:/none"),
        ({"model": "models:/none@champion"}, "Cannot find or fetch the model models:/none"),
        ({"model": "runs:/0123456789abcdef/model"}, "Cannot find or fetch the model runs:/"),
        ({"model": "no/such/folder"}, "No model at"),
        ({"endpoint": "dead"}, "does not answer"),
        ({"input": "gs://bucket/scans"}, "Expected s3://bucket/prefix/ or a local folder"),
        ({"input": "missing-folder"}, "does not exist"),
    ],
)
def test_what_cannot_work_is_said_in_one_sentence_before_any_work(
    bucket: Bucket,
    run_here: Run,
    stand_in_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, object],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("batch.locations.MAX_ATTEMPTS", 2)
    bucket.put({"scans/1.png": png(1)})
    source = str(change.get("input", "s3://{bucket}/scans/")).format(bucket=bucket.name)
    target = str(change.get("output", "s3://{bucket}/scores/")).format(bucket=bucket.name)
    extra = ["--endpoint-url", f"http://127.0.0.1:{free_port()}"] if "endpoint" in change else []
    environment = {}
    if "credentials" in change:
        pair = change["credentials"]
        environment = {"credentials": pair} if pair else {"credentials": ("", "")}
    result = run_here(
        source, target, "--model-uri", change.get("model", stand_in_model), *extra, **environment
    )
    assert result.code == 2
    assert sentence in result.err
    assert result.out == ""
    message = [line for line in result.err.splitlines() if line.startswith("Error")]
    assert len(message) == 1
    assert "SK" not in message[0]
    assert not bucket.names("scores/")


def test_broken_models_are_found_before_any_work(
    bucket: Bucket, run_here: Run, stand_in_model: Path, tmp_path: Path
) -> None:
    from tests.batch.test_job import save_model

    bucket.put({"scans/1.png": png(1)})
    places = (f"s3://{bucket.name}/scans/", f"s3://{bucket.name}/scores/")
    other = save_model(tmp_path, "\n        return pd.DataFrame({'y': [0] * len(model_input)})")
    result = run_here(*places, "--model-uri", other, "--no-tracking")
    assert result.code == 2
    assert "have a column `error`" in result.err
    (other / "changed.py").write_text("raise RuntimeError('no such network file')")
    result = run_here(*places, "--model-uri", other, "--no-tracking")
    assert result.code == 2
    assert "cannot be loaded (RuntimeError: no such network file)" in result.err
    assert not bucket.names("scores/")


def test_output_that_cannot_be_written_is_found_first(
    tmp_path: Path, run_here: Run, stand_in_model: Path
) -> None:
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "1.png").write_bytes(png(1))
    (tmp_path / "file").write_text("not a folder")
    result = run_here(
        tmp_path / "scans", tmp_path / "file" / "out", "--model-uri", stand_in_model,
        "--no-tracking",
    )  # fmt: skip
    assert result.code == 2
    assert "Cannot write to" in result.err
