"""An S3 Inventory instead of a listing."""

from __future__ import annotations

import csv
import gzip
import io
import json
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch.faults import CannotRunError
from batch.locations import Access, Location
from batch.source.inventory import inventory_pages
from batch.table.index import KeySet
from tests.batch.conftest import Bucket, Run, png

SCHEMA = "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, LastModifiedDate, ETag"


def entries(bucket: Bucket) -> list[dict[str, Any]]:
    """Return what S3 would put into an inventory of the bucket."""
    listed = bucket.client.list_objects_v2(Bucket=bucket.name)["Contents"]
    return [
        {
            "bucket": bucket.name,
            "key": entry["Key"],
            "version_id": "v1",
            "is_latest": True,
            "is_delete_marker": False,
            "size": entry["Size"],
            "last_modified_date": entry["LastModified"],
            "e_tag": entry["ETag"].strip('"'),
        }
        for entry in listed
    ]


def csv_bytes(rows: list[dict[str, Any]], encode: bool) -> bytes:
    """Write rows as S3 Inventory does: no header, everything quoted, keys URL-encoded."""
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL)
    for row in rows:
        key = quote_plus(row["key"], safe="/") if encode else row["key"]
        when = row["last_modified_date"].strftime("%Y-%m-%dT%H:%M:%S.000Z")
        shown = row | {"key": key, "last_modified_date": when}
        writer.writerow(str(v).lower() if isinstance(v, bool) else v for v in shown.values())
    return text.getvalue().encode()


@pytest.mark.parametrize("file_format", ["CSV", "Parquet"])
def test_inventory_gives_the_rows_of_a_listing(
    bucket: Bucket, run_here: Run, stand_in_model: Path, file_format: str
) -> None:
    bucket.put({f"scans/a b+{n}&ü.png": png(n) for n in range(12)})
    bucket.put({"scans/folder/": b"", "elsewhere/1.png": png(1)})
    rows = entries(bucket)
    old = rows[3] | {"is_latest": False, "version_id": "v0", "e_tag": "0" * 32}
    deleted = rows[4] | {"key": "scans/deleted.png", "is_delete_marker": True, "size": 0}
    rows += [old, deleted, rows[5]]  # the last is listed twice
    halves = [rows[:7], rows[7:]]
    files = []
    for number, half in enumerate(halves):
        if file_format == "CSV":
            name, data = f"inv/data/{number}.csv.gz", gzip.compress(csv_bytes(half, encode=True))
        else:
            buffer = io.BytesIO()
            pq.write_table(pa.Table.from_pylist(half), buffer)
            name, data = f"inv/data/{number}.parquet", buffer.getvalue()
        bucket.put({name: data})
        files.append({"key": name, "size": len(data)})
    manifest = {
        "sourceBucket": bucket.name,
        "destinationBucket": f"arn:aws:s3:::{bucket.name}",
        "fileFormat": file_format,
        "fileSchema": SCHEMA,
        "files": files,
    }
    bucket.put({"inv/manifest.json": json.dumps(manifest).encode()})
    places = (f"s3://{bucket.name}/scans/", f"s3://{bucket.name}/scores/")
    arguments = (*places, "--model-uri", stand_in_model, "--no-tracking")
    result = run_here(*arguments, "--inventory", f"s3://{bucket.name}/inv/manifest.json")
    assert result.code == 0, result.err
    assert result.summary["rows"] == result.summary["objects_listed"] == 12
    # A listing afterwards finds everything done: same objects, same ETags.
    listed = run_here(*arguments)
    assert listed.summary["objects_read"] == 0
    assert listed.summary["rows"] == 12


def test_plain_csv_with_and_without_header(tmp_path: Path) -> None:
    location = Location.parse("s3://b/scans/")
    line = "b,scans/a%20b+c.png,12,2026-11-01T10:00:00.000Z,abc\n"
    bare, headed = tmp_path / "bare.csv", tmp_path / "headed.csv"
    bare.write_text(line)
    headed.write_text("Bucket,Key,Size,Last-Modified,ETag\n" + line)
    ((one,),) = inventory_pages(str(bare), location, Access())
    assert one.uri == "s3://b/scans/a b c.png"  # as S3 Inventory and Batch Operations write keys
    ((one,),) = inventory_pages(str(headed), location, Access())
    assert one.uri == "s3://b/scans/a%20b+c.png"  # as written
    assert one.last_modified == datetime.fromisoformat("2026-11-01T10:00:00+00:00")
    assert (one.size_bytes, one.etag) == (12, "abc")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("Bucket,Key,Size\nb,k,1\n", "has no column lastmodifieddate, etag"),
        ("b,scans/k,many,2026-11-01T10:00:00Z,abc\n", "Cannot read the inventory"),
        ("b,scans/k,1,yesterday,abc\n", "Cannot read the inventory"),
        ("b,scans/k,1,2026-11-01T10:00:00Z,\n", "has no ETag"),
    ],
)
def test_what_is_no_inventory_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "inventory.csv"
    path.write_text(text)
    with pytest.raises(CannotRunError, match=sentence):
        list(inventory_pages(str(path), Location.parse("s3://b/scans/"), Access()))


@pytest.mark.parametrize("text", ["[]", "{}", '{"fileSchema": 1}', "not JSON"])
def test_what_is_no_manifest_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(text)
    with pytest.raises(CannotRunError, match="Cannot read the inventory"):
        list(inventory_pages(str(path), Location.parse("s3://b/scans/"), Access()))


def test_key_set_notices_repetitions_within_and_between_pages() -> None:
    met = KeySet()
    assert met.add(["a", "b", "a"]) == [True, True, False]
    for page in range(30):
        assert all(met.add([f"{page}-{n}" for n in range(10)]))
        assert not any(met.add([f"{page}-{n}" for n in range(10)]))
    assert met.add(["b", "c"]) == [False, True]
