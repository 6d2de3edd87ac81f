"""S3 Inventory instead of a listing, for prefixes of many millions of objects.

Formats: https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory-location.html
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import compress, islice
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote_plus

from batch.faults import CannotRunError, is_s3_fault, s3_sentence
from batch.locations import Access, Location, make_client
from batch.scratch import scratch_folder
from batch.source.listing import PAGE, Pages, ScanObject, strip_quotes
from batch.table.index import KeySet

Record = dict[str, Any]
NEEDED = ("bucket", "key", "size", "lastmodifieddate", "etag")
PLAIN = list(NEEDED)  # the columns of a CSV file without a header


def inventory_pages(source: str, location: Location, access: Access) -> Pages:
    """Yield the inventory's objects under a prefix, each once, page by page.

    Args:
        source: `manifest.json` of an inventory (its data files may be CSV, Parquet or ORC), or one
            CSV file (plain or .gz) of bucket, key, size, last-modified, etag. Local or on S3.
        location: the input; entries elsewhere are left out, as are old versions, delete markers
            and the empty objects that show a folder.

    Raises:
        CannotRunError: it cannot be read as an inventory.
    """
    if not location.bucket:
        raise CannotRunError("--inventory describes S3 objects: expected an s3:// input beside it.")
    try:
        records = _records(source, access)
        scans = (
            _scan(record, source)
            for record in records
            if record.get("bucket") == location.bucket
            and str(record.get("key")).startswith(location.path)
            and _is_current(record)
        )
        met = KeySet()
        while page := list(islice(scans, PAGE)):
            new = met.add([scan.uri for scan in page])
            yield list(compress(page, new))
    except (AttributeError, KeyError, OSError, TypeError, ValueError, csv.Error) as error:
        raise CannotRunError(
            f"Cannot read the inventory {source} ({type(error).__name__}: {error}). Expected an S3 "
            "Inventory manifest.json, or a CSV file of bucket, key, size, last-modified, etag."
        ) from error


def _records(source: str, access: Access) -> Iterator[Record]:
    if not source.endswith(".json"):
        with _local_copy(source, access) as path:
            yield from _csv_records(path, None)
        return
    with _local_copy(source, access) as path:
        manifest = json.loads(path.read_text())
    columns = [_plain_name(name) for name in manifest["fileSchema"].split(",")]
    file_format = str(manifest["fileFormat"]).lower()
    if file_format == "csv":
        _require(columns, source)
    bucket = manifest["destinationBucket"].removeprefix("arn:aws:s3:::")
    for entry in manifest["files"]:
        name = entry["key"]
        if not source.startswith("s3://"):  # a downloaded inventory: its files lie beside it
            name = _beside(Path(source).parent, name)
        with _local_copy(name if Path(name).is_file() else f"s3://{bucket}/{name}", access) as path:
            if file_format == "csv":
                yield from _csv_records(path, columns)
            else:
                yield from _columnar_records(path, file_format, source)


def _beside(folder: Path, key: str) -> str:
    for candidate in (folder / key, folder / "data" / Path(key).name, folder / Path(key).name):
        if candidate.is_file():
            return str(candidate)
    return key


@contextlib.contextmanager
def _local_copy(source: str, access: Access) -> Iterator[Path]:
    """Have a file on disk (an inventory's data file may be larger than memory)."""
    if not source.startswith("s3://"):
        yield Path(source)
        return
    bucket, _, key = source.removeprefix("s3://").partition("/")
    with scratch_folder("inventory") as folder:
        path = folder / Path(key).name
        try:
            make_client(access, signed=not access.no_sign_request).download_file(
                bucket, key, str(path)
            )
        except Exception as error:
            if is_s3_fault(error):
                raise CannotRunError(s3_sentence(error, f"read the inventory {source}")) from error
            raise
        yield path


def _csv_records(path: Path, columns: list[str] | None) -> Iterator[Record]:
    """Read CSV. Without given columns the first line may be a header; then keys are as written.

    An inventory's own CSV has no header and URL-encodes the keys.
    """
    with _open_text(path) as file:
        rows: Iterable[list[str]] = csv.reader(file)
        encoded = True
        if columns is None:
            first = next(iter(rows), [])
            header = [_plain_name(name) for name in first]
            if "bucket" in header and "key" in header:
                columns, encoded = header, False
            else:
                columns, rows = PLAIN, _prepend(first, rows)
            _require(columns, str(path.name))
        for row in rows:
            if not row:
                continue
            record = dict(zip(columns, row, strict=False))
            if encoded:
                record["key"] = unquote_plus(record["key"])
            yield record


def _prepend(first: list[str], rest: Iterable[list[str]]) -> Iterator[list[str]]:
    yield first
    yield from rest


def _open_text(path: Path) -> IO[str]:
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    open_file: Any = gzip.open if zipped else open
    opened: IO[str] = open_file(path, "rt", encoding="utf-8", newline="")
    return opened


def _columnar_records(path: Path, file_format: str, source: str) -> Iterator[Record]:
    import pyarrow.dataset

    data = pyarrow.dataset.dataset(str(path), format=file_format)
    names = {name: _plain_name(name) for name in data.schema.names}
    _require(names.values(), source)
    wanted = [
        name for name, plain in names.items() if plain in (*NEEDED, "islatest", "isdeletemarker")
    ]
    for batch in data.to_batches(columns=wanted, batch_size=10 * PAGE):
        for row in batch.to_pylist():
            yield {names[name]: value for name, value in row.items()}


def _plain_name(name: str) -> str:
    plain = name.strip().lower().replace("_", "").replace("-", "").replace(" ", "")
    return "lastmodifieddate" if plain == "lastmodified" else plain


def _require(columns: Iterable[str], source: str) -> None:
    missing = [name for name in NEEDED if name not in set(columns)]
    if missing:
        raise CannotRunError(
            f"The inventory {source} has no column {', '.join(missing)}. Expected Bucket, Key, "
            "Size, LastModifiedDate and ETag; add the optional fields to its configuration."
        )


def _is_current(record: Record) -> bool:
    latest = str(record.get("islatest", "true")).lower() != "false"
    deleted = str(record.get("isdeletemarker", "false")).lower() == "true"
    folder = str(record["key"]).endswith("/") and not int(record["size"] or 0)
    return latest and not deleted and not folder


def _scan(record: Record, source: str) -> ScanObject:
    when = record["lastmodifieddate"]
    if isinstance(when, str):
        when = datetime.fromisoformat(when)
    when = when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
    if not record["etag"]:
        raise ValueError(f"an object in {source} has no ETag")
    return ScanObject(
        f"s3://{record['bucket']}/{record['key']}",
        int(record["size"]),
        strip_quotes(record["etag"]),
        when,
    )
