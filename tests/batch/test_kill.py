"""Killed at random moments, the job loses nothing and reads little twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from batch.settings import Concurrency
from tests.batch.conftest import Bucket, clean_environment, png
from tests.batch.fault_proxy import fault_proxy
from tests.batch.kills import finish_despite_kills, save_slow_model

SECONDS_PER_SCAN = 0.012


@pytest.mark.parametrize(
    ("kills", "objects", "hostile", "batch_size", "span_s"),
    [
        pytest.param(2, 160, 0, 64, 0.6, id="2"),
        pytest.param(20, 640, 0, 64, 0.6, id="20", marks=pytest.mark.slow),
        pytest.param(12, 300, 4, 8, 4.0, id="12-hostile", marks=pytest.mark.slow),
    ],
)
def test_kills_cost_no_row_and_at_most_a_window_of_reads_each(
    bucket: Bucket,
    tmp_path: Path,
    kills: int,
    objects: int,
    hostile: int,
    batch_size: int,
    span_s: float,
) -> None:
    bucket.put({f"scans/{n // 100}/{n:04d}.png": png(n) for n in range(objects)})
    bucket.put(
        {f"scans/{n // 10}/{n * 37:04d}-hostile": b"kill" + bytes(n) for n in range(hostile)}
    )
    model = save_slow_model(tmp_path, SECONDS_PER_SCAN)
    with fault_proxy(bucket.server.endpoint_url) as proxy:
        environment = clean_environment(
            tmp_path, **(bucket.server.env() | {"AWS_ENDPOINT_URL": proxy.endpoint_url})
        )
        arguments = [
            f"s3://{bucket.name}/scans/", f"s3://{bucket.name}/scores/", "--model-uri", str(model),
            "--no-tracking", "--batch-size", str(batch_size),
        ]  # fmt: skip
        killed = finish_despite_kills(
            arguments, environment, proxy, f"/{bucket.name}/scans/", tmp_path,
            kills=kills, span_s=span_s,
        )  # fmt: skip
    table = bucket.table("scores/")
    expected = {f"s3://{bucket.name}/{key}" for key in bucket.names("scans/")}
    assert killed.exit_code == (1 if hostile else 0), (tmp_path / "err").read_text()
    assert killed.kills == kills
    assert killed.while_reading >= kills // 2, "most kills must meet a job that is scoring"
    assert len(expected) == objects + hostile
    assert table.num_rows == objects + hostile
    assert set(table["uri"].to_pylist()) == expected
    assert table["label"].null_count == hostile
    failed = {row["uri"]: row["error"] for row in table.to_pylist() if row["error"]}
    assert all(uri.endswith("-hostile") for uri in failed)
    assert all(error.startswith("model_died: ") for error in failed.values())
    window = Concurrency(batch_size, workers=16).window
    assert killed.reads <= objects + hostile + kills * window
    assert json.loads((tmp_path / "out").read_text())["rows"] == objects + hostile
    assert not bucket.names("scores/_journal/")
    assert not bucket.names("scores/_lock")
    assert bucket.names("scores/_SUCCESS")
