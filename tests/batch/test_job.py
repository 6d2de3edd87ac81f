"""The job against a real S3 server and in folders: one row each, whatever the objects are."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.batch.conftest import ROOT, Bucket, Run, clean_environment, png
from tests.batch.fault_proxy import fault_proxy
from tests.batch.kills import save_slow_model

COLUMNS = [
    "uri", "etag", "size_bytes", "last_modified",
    "label", "probability", "p_adenocarcinoma", "p_normal", "error",
    "model_uri", "model_digest", "scored_at",
]  # fmt: skip


def test_command_scores_a_prefix_and_prints_only_the_summary(
    bucket: Bucket, run_cli: Run, stand_in_model: Path
) -> None:
    bucket.put({f"scans/{n}.png": png(n) for n in range(30)})
    bucket.put({"scans-old/1.png": png(1), "scans/folder/": b""})
    result = run_cli(
        f"s3://{bucket.name}/scans", f"s3://{bucket.name}/scores/", "--model-uri", stand_in_model
    )  # fmt: skip
    assert result.code == 0, result.err
    assert "Warning" not in result.err
    table = bucket.table("scores/")
    assert table.column_names == COLUMNS
    assert table.num_rows == 30
    assert pa.types.is_timestamp(table.schema.field("scored_at").type)
    row = {r["uri"]: r for r in table.to_pylist()}[f"s3://{bucket.name}/scans/7.png"]
    head = bucket.client.head_object(Bucket=bucket.name, Key="scans/7.png")
    assert row["etag"] == head["ETag"].strip('"')
    assert row["size_bytes"] == head["ContentLength"]
    assert row["last_modified"] == head["LastModified"]
    assert row["p_adenocarcinoma"] + row["p_normal"] == pytest.approx(1)
    assert datetime.now(UTC) - row["scored_at"] < timedelta(minutes=10)
    summary = result.summary
    assert summary["rows"] == summary["objects_listed"] == summary["objects_read"] == 30
    assert summary["rows_lost"] == 0
    assert summary["labels"] == {"adenocarcinoma": 30}
    assert json.loads(bucket.get("scores/summary.json")) == summary
    assert set(bucket.names("scores/")) == {
        "scores/part-00000.parquet", "scores/summary.json", "scores/_SUCCESS", "scores/_job.json",
        "scores/_symlink_format_manifest/manifest", "scores/_digests/part-00000.parquet",
    }  # fmt: skip


def test_bad_objects_get_rows_and_cost_their_neighbours_nothing(
    bucket: Bucket, run_here: Run, stand_in_model: Path
) -> None:
    bucket.put({f"scans/{n:02d}.png": png(n) for n in range(20)})
    bucket.put(
        {
            "scans/notes.txt": b"no scan",
            "scans/renamed.png": b"%PDF-1.7 not an image",
            "scans/scan without a suffix": png(200),
            "scans/empty.png": b"",
            "scans/corrupt.png": png(3)[:60],
            "scans/Ünïcode + spaces #1?.png": png(5),
        }
    )
    result = run_here(
        f"s3://{bucket.name}/scans/", f"s3://{bucket.name}/scores/",
        "--model-uri", stand_in_model, "--no-tracking",
    )  # fmt: skip
    assert result.code == 1
    assert "4 of 26 rows have errors" in result.err
    rows = {r["uri"].partition("/scans/")[2]: r for r in bucket.table("scores/").to_pylist()}
    assert len(rows) == 26
    failed = {name for name, row in rows.items() if row["error"]}
    assert failed == {"notes.txt", "renamed.png", "empty.png", "corrupt.png"}
    for name, row in rows.items():
        assert (row["label"] is None) == (name in failed)
        assert (row["probability"] is None) == (name in failed)
    assert rows["scan without a suffix"]["label"] == "normal"
    assert sum(result.summary["errors"].values()) == 4


def test_objects_that_vanish_change_or_are_forbidden_after_listing_get_rows(
    bucket: Bucket, run_here: Run, stand_in_model: Path
) -> None:
    bucket.put({f"scans/{n:02d}.png": png(n) for n in range(12)})
    vanished = bucket.client.delete_object

    def choose(method: str, path: str) -> str:
        if method == "GET" and path.endswith("/03.png"):
            vanished(Bucket=bucket.name, Key="scans/03.png")
        if method == "GET" and path.endswith("/04.png"):
            bucket.put({"scans/04.png": png(250)})
        return "forbidden" if path.endswith("/05.png") else "none"

    with fault_proxy(bucket.server.endpoint_url, choose) as proxy:
        arguments = (
            f"s3://{bucket.name}/scans/", f"s3://{bucket.name}/scores/",
            "--model-uri", stand_in_model, "--no-tracking",
        )  # fmt: skip
        result = run_here(*arguments, "--endpoint-url", proxy.endpoint_url)
    assert result.code == 1, result.err
    rows = {r["uri"][-6:]: r for r in bucket.table("scores/").to_pylist()}
    assert len(rows) == 12
    assert rows["03.png"]["error"].startswith("not_found: ")
    assert rows["05.png"]["error"].startswith("forbidden: ")
    assert result.summary["errors"] == {"not_found": 1, "forbidden": 1}
    # The row tells of the content that was scored, not of the content that was listed.
    changed = bucket.client.head_object(Bucket=bucket.name, Key="scans/04.png")
    assert rows["04.png"]["etag"] == changed["ETag"].strip('"')
    assert rows["04.png"]["label"] == "normal"
    again = run_here(*arguments, "--retry-failed")
    assert again.code == 0
    assert again.summary["objects_read"] == 1  # the forbidden one; 03 is no longer listed
    assert again.summary["rows"] == again.summary["objects_listed"] == 11


def test_folders_work_in_both_places(tmp_path: Path, run_cli: Run, stand_in_model: Path) -> None:
    scans = tmp_path / "scans" / "a b%20"
    scans.mkdir(parents=True)
    for n in range(5):
        (scans / f"{n}.png").write_bytes(png(n))
    (scans / "gone.png").symlink_to(scans / "nowhere.png")
    result = run_cli(
        tmp_path / "scans", tmp_path / "out", "--model-uri", stand_in_model, "--no-tracking"
    )
    assert result.code == 1, result.err
    table = pq.read_table(tmp_path / "out" / "part-00000.parquet")
    assert table.num_rows == result.summary["rows"] == 6
    uris = {Path(uri).name for uri in table["uri"].to_pylist()}
    assert uris == {"0.png", "1.png", "2.png", "3.png", "4.png", "gone.png"}
    assert result.summary["errors"] == {"not_found": 1}
    assert (tmp_path / "out" / "_SUCCESS").exists()


def test_csv_holds_the_same_rows(tmp_path: Path, run_here: Run, stand_in_model: Path) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    for n in range(5):
        (scans / f'{n}, "{n}".png').write_bytes(png(n))
    (scans / "bad.png").write_bytes(b"x")
    arguments = ("--model-uri", stand_in_model, "--no-tracking")
    assert run_here(scans, tmp_path / "parquet", *arguments).code == 1
    result = run_here(scans, tmp_path / "csv", *arguments, "--format", "csv")
    assert result.code == 1
    csv = pd.read_csv(tmp_path / "csv" / "part-00000.csv")
    parquet = pd.read_parquet(tmp_path / "parquet" / "part-00000.parquet")
    assert list(csv.columns) == list(parquet.columns)
    same = ["uri", "etag", "label", "probability", "p_normal", "error"]
    left, right = (
        frame.sort_values("uri")[same].reset_index(drop=True).astype(object).fillna("null")
        for frame in (csv, parquet)
    )
    assert left.equals(right)
    again = run_here(scans, tmp_path / "csv", *arguments, "--format", "csv")
    assert again.summary["objects_read"] == 0


def test_include_limit_and_dry_run(bucket: Bucket, run_here: Run, stand_in_model: Path) -> None:
    bucket.put({f"scans/{n % 3}/{n:02d}.png": png(n) for n in range(20)})
    bucket.put({"scans/notes.txt": b"abc"})
    places = (f"s3://{bucket.name}/scans/", f"s3://{bucket.name}/scores/")
    dry = run_here(*places, "--dry-run", "--model-uri", "models:/none/1")
    assert dry.code == 0
    assert dry.summary["objects"] == 21
    assert dry.summary["bytes"] == 3 + sum(len(png(n)) for n in range(20))
    assert not bucket.names("scores/")
    some = ("--include", "*.png", "--model-uri", stand_in_model, "--no-tracking")
    assert run_here(*places, *some, "--dry-run").summary["objects"] == 20
    first = run_here(*places, *some, "--limit", 7)
    assert first.code == 0
    assert first.summary["rows"] == 7
    rest = run_here(*places, *some)
    assert rest.summary["objects_read"] == 13
    assert rest.summary["rows"] == 20
    fewer = run_here(*places, *some, "--limit", 5)
    assert fewer.summary["objects_read"] == 0
    assert (fewer.summary["rows"], fewer.summary["rows_beyond_limit"]) == (20, 15)
    assert fewer.summary["rows_lost"] == 0


def test_interrupt_keeps_what_is_scored_and_says_how_to_go_on(
    bucket: Bucket, tmp_path: Path
) -> None:
    bucket.put({f"scans/{n:03d}.png": png(n) for n in range(200)})
    model = save_slow_model(tmp_path, seconds_per_scan=0.05)
    with fault_proxy(bucket.server.endpoint_url) as proxy:
        command = [
            sys.executable, "-m", "batch", f"s3://{bucket.name}/scans/",
            f"s3://{bucket.name}/scores/", "--model-uri", str(model), "--no-tracking",
            "--batch-size", "16",  # so 48 are read ahead, and the 60th is read when some are scored
        ]  # fmt: skip
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=clean_environment(
                tmp_path, **(bucket.server.env() | {"AWS_ENDPOINT_URL": proxy.endpoint_url})
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        while proxy.reads_of(f"/{bucket.name}/scans/") < 60 and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 2, err
    assert out == ""
    assert "Run the same command again to go on" in err
    assert "Traceback" not in err
    assert bucket.names("scores/_journal/")
    assert not bucket.names("scores/_lock"), "the lock is given back"
    assert not bucket.names("scores/_SUCCESS")


def test_model_that_raises_or_answers_too_few_rows_costs_only_those_rows(
    bucket: Bucket, run_here: Run, tmp_path: Path
) -> None:
    model = save_model(
        tmp_path,
        """
        images = model_input["image"]
        if any(len(image) > 5000 for image in images):
            raise RuntimeError("out of memory")
        if any(image == b"swallow" for image in images):
            images = [image for image in images if image != b"swallow"]
        frame = super().predict(context, pd.DataFrame({"image": list(images)}), params)
        frame["out_of_domain"] = [None if e else False for e in frame["error"]]
        frame["note"] = [{"seen": 1} for _ in range(len(frame))]
        return frame
        """,
    )
    bucket.put({f"scans/{n:02d}.png": png(n) for n in range(20)})
    bucket.put({"scans/huge.png": b"x" * 6000, "scans/swallowed.png": b"swallow"})
    result = run_here(
        f"s3://{bucket.name}/scans/", f"s3://{bucket.name}/scores/",
        "--model-uri", model, "--no-tracking",
    )  # fmt: skip
    assert result.code == 1, result.err
    table = bucket.table("scores/")
    assert table.schema.field("out_of_domain").type == pa.bool_()
    assert table.schema.field("note").type == pa.string()
    rows = {r["uri"].rpartition("/")[2]: r for r in table.to_pylist()}
    assert {name for name, row in rows.items() if row["error"]} == {"huge.png", "swallowed.png"}
    assert rows["huge.png"]["error"] == "model_failed: RuntimeError: out of memory"
    assert "expected 1 rows, received 0" in rows["swallowed.png"]["error"]
    assert rows["00.png"]["out_of_domain"] is False
    assert rows["huge.png"]["out_of_domain"] is None
    assert json.loads(rows["00.png"]["note"]) == {"seen": 1}
    assert result.summary["out_of_domain"] == 0


def save_model(folder: Path, predict: str, name: str = "changed") -> Path:
    """Save the stand-in with another `predict`, given as its indented body."""
    import mlflow

    from tests.stand_in_model import CODE, signature

    code = folder / f"{name}.py"
    head = CODE.partition("mlflow.models.set_model")[0]
    code.write_text(
        f"{head}class Changed(StandIn):\n    def predict(self, context, model_input, params=None):"
        f"{predict}\n\nmlflow.models.set_model(Changed())\n"
    )
    path = folder / f"{name}-model"
    mlflow.pyfunc.save_model(
        str(path), python_model=str(code), signature=signature(), pip_requirements=["mlflow"]
    )
    return path
