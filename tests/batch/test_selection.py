"""Which objects are scored: names of any bytes, patterns, and what systems leave in folders."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pyarrow.parquet as pq

from batch.locations import Location, path_of
from batch.source.listing import ScanObject, list_objects
from batch.source.selection import SYSTEM_NAMES, Selection, is_system_file, select
from scans import listing
from scans.limits import Limits
from tests.batch.conftest import Bucket, Run, png
from tests.batch.fault_proxy import fault_proxy
from tests.batch.test_objects import WHEN

SYSTEM_FILES = (
    ".DS_Store", "a/.DS_Store", "Thumbs.db", "a/THUMBS.DB", "__MACOSX/a/._1.png", "a/._1.png",
    "desktop.ini", ".git/1.png", "$RECYCLE.BIN/1.png", ".hidden",
)  # fmt: skip
NOT_SYSTEM_FILES = ("1.png", "a/DS_Store", "a/b.", "MACOSX/1.png", "thumbs.db.png")


def objects(*names: str) -> list[ScanObject]:
    """Return objects with these names below s3://b/in/."""
    return [ScanObject(f"s3://b/in/{name}", 1, "e", WHEN) for name in names]


def test_select_matches_names_below_the_input_and_stops_at_the_limit() -> None:
    def pages():  # type: ignore[no-untyped-def]
        for number in range(5):
            yield objects(*(f"{number}/{n}.png" for n in range(400)))
        raise AssertionError("read further than needed")

    selection = Selection(include=("1/*.png", "2/?.png"), limit=405)
    kept = [s for page in select(pages(), "s3://b/in/", selection) for s in page.objects]
    assert len(kept) == 405
    assert kept[-1].uri == "s3://b/in/2/4.png"


def test_exclude_takes_away_from_what_is_included_and_system_files_are_counted() -> None:
    names = ("a/1.png", "a/2.png", "old/1.png", "a/1.txt", "a/._1.png", "Thumbs.db")
    selection = Selection(include=("*.png", "*.db"), exclude=("old/*", "*/2.png"))
    (page,) = select(iter([objects(*names)]), "s3://b/in/", selection)
    assert [scan.uri for scan in page.objects] == ["s3://b/in/a/1.png"]
    assert page.passed_over == 2


def test_dots_in_an_s3_key_are_not_hidden_files() -> None:
    names = ("./1.png", "a/../1.png", "a//1.png", "a/1.png/")
    (page,) = select(iter([objects(*names)]), "s3://b/in/", Selection())
    assert (len(page.objects), page.passed_over) == (4, 0)


def test_ingestion_passes_over_the_same_files(tmp_path: Path) -> None:
    for name in SYSTEM_FILES + NOT_SYSTEM_FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(png(1))
    assert SYSTEM_NAMES == listing.SYSTEM_NAMES
    ingested = listing.list_files(tmp_path, Limits())
    location = Location.parse(str(tmp_path))
    (page,) = select(list_objects(location, None), location.uri, Selection())
    scored = {path_of(scan.uri).relative_to(tmp_path).as_posix() for scan in page.objects}
    assert scored == {path.as_posix() for path in ingested.files} == set(NOT_SYSTEM_FILES)
    assert page.passed_over == ingested.passed_over == len(SYSTEM_FILES)
    assert all(is_system_file(name) for name in SYSTEM_FILES)


def test_system_files_get_no_row_and_exclude_belongs_to_the_output(
    tmp_path: Path, run_here: Run, stand_in_model: Path
) -> None:
    scans = tmp_path / "scans"
    for name in (*SYSTEM_FILES, "a/1.png", "a/2.png", "old/3.png"):
        (scans / name).parent.mkdir(parents=True, exist_ok=True)
        (scans / name).write_bytes(png(1) if name.endswith(".png") else b"no scan")
    (scans / "__MACOSX/a/._1.png").write_bytes(b"no scan")
    arguments = (scans, tmp_path / "out", "--model-uri", stand_in_model, "--no-tracking")
    dry = run_here(*arguments, "--dry-run").summary
    assert (dry["objects"], dry["objects_passed_over"]) == (3, len(SYSTEM_FILES))
    result = run_here(*arguments, "--exclude", "old/*")
    assert result.code == 0, result.err
    assert (result.summary["rows"], result.summary["rows_lost"]) == (2, 0)
    assert result.summary["objects_passed_over"] == len(SYSTEM_FILES)
    refused = run_here(*arguments)
    assert refused.code == 2
    assert "its --exclude is old/*, and this command's is nothing" in refused.err
    nothing = run_here(*arguments, "--include", "*.DS_Store", "--exclude", "x")
    assert nothing.code == 2
    assert "that match *.DS_Store and that do not match x" in nothing.err
    assert f"({len(SYSTEM_FILES)} hidden or system files were passed over)" in nothing.err


def test_names_that_are_not_utf8_are_scored(
    tmp_path: Path, run_here: Run, stand_in_model: Path
) -> None:
    scans = tmp_path / os.fsdecode(b"sc\xe4ns")
    names = (b"b\xf6ses/1.png", b"\xff.png", "ö%FF #1?.png".encode())
    for n, name in enumerate(names):
        path = scans / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(n))
    output = tmp_path / os.fsdecode(b"scor\xe9s")
    arguments = (scans, output, "--model-uri", stand_in_model, "--no-tracking")
    result = run_here(*arguments, "--include", os.fsdecode(b"b\xf6ses/*"), "--include", "*")
    assert result.code == 0, result.err
    rows = pq.read_table(io.BytesIO((output / "part-00000.parquet").read_bytes())).to_pylist()
    read = {os.fsencode(path_of(row["uri"]).relative_to(scans)): row["error"] for row in rows}
    assert read == dict.fromkeys(names)
    again = run_here(*arguments, "--include", os.fsdecode(b"b\xf6ses/*"), "--include", "*")
    assert again.summary["objects_read"] == 0
    assert run_here(Location.parse(str(scans)).uri, output, "--dry-run").summary["objects"] == 3


def test_a_public_bucket_is_read_without_credentials(
    bucket: Bucket, run_here: Run, stand_in_model: Path, tmp_path: Path
) -> None:
    bucket.put({f"scans/{n}.png": png(n) for n in range(5)})
    statement = {
        "Effect": "Allow", "Principal": "*", "Action": ["s3:GetObject", "s3:ListBucket"],
        "Resource": [f"arn:aws:s3:::{bucket.name}", f"arn:aws:s3:::{bucket.name}/scans/*"],
    }  # fmt: skip
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    bucket.client.put_bucket_policy(Bucket=bucket.name, Policy=json.dumps(policy))
    places = (f"s3://{bucket.name}/scans/", tmp_path / "out")
    options = ("--model-uri", stand_in_model, "--no-tracking")
    refused = run_here(*places, *options, credentials=("", ""))
    assert refused.code == 2
    assert "a public bucket is read with --no-sign-request" in refused.err
    result = run_here(*places, *options, "--no-sign-request", credentials=("", ""))
    assert result.code == 0, result.err
    assert result.summary["rows"] == 5
    # Only the input is read without credentials.
    with fault_proxy(bucket.server.endpoint_url) as proxy:
        own = run_here(
            places[0], f"s3://{bucket.name}/scores/", *options, "--no-sign-request",
            "--endpoint-url", proxy.endpoint_url,
        )  # fmt: skip
    assert own.code == 0, own.err
    assert bucket.table("scores/").num_rows == 5
