"""A byte that changed in what a job wrote is noticed, wherever it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from batch.faults import CannotRunError
from batch.store.stores import FolderStore
from batch.table.journal import JOURNAL, Journal, read_segment
from batch.table.part_files import DIGESTS, PartFiles
from batch.table.parts import schema_of, to_table
from tests.batch.conftest import Run
from tests.batch.test_parts import COLUMNS, ROWS

SCHEMA = schema_of(COLUMNS)


def flipped(data: bytes, position: int) -> bytes:
    """Return the bytes with one bit changed."""
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


@pytest.mark.parametrize("file_format", ["parquet", "csv"])
def test_any_flipped_byte_of_a_part_is_noticed(tmp_path: Path, file_format: str) -> None:
    parts = PartFiles(FolderStore(tmp_path), file_format, SCHEMA)
    table = to_table(ROWS, SCHEMA)
    parts.create(0, table)
    (read,) = parts.read([0])
    assert read.equals(table)
    path = tmp_path / parts.name(0)
    whole = path.read_bytes()
    for position in range(0, len(whole), 7):
        path.write_bytes(flipped(whole, position))
        with pytest.raises(CannotRunError, match=f"{parts.name(0)} is damaged"):
            list(parts.read([0]))
        with pytest.raises(CannotRunError, match="is damaged"):
            parts.rewrite(0, lambda table: table)
    path.write_bytes(whole)
    digests = tmp_path / DIGESTS / parts.name(0)
    digests.write_bytes(flipped(digests.read_bytes(), 3))
    with pytest.raises(CannotRunError, match="is damaged"):
        list(parts.read([0]))


def test_a_resumed_job_stops_at_a_flipped_byte(
    two_parts: Path, tmp_path: Path, run_here: Run, stand_in_model: Path
) -> None:
    path = two_parts / "part-00001.parquet"
    whole = path.read_bytes()
    damaged = flipped(whole, len(whole) // 2)
    path.write_bytes(damaged)
    arguments = (tmp_path / "scans", two_parts, "--model-uri", stand_in_model, "--no-tracking")
    result = run_here(*arguments)
    assert result.code == 2
    assert "part-00001.parquet is damaged" in result.err
    assert path.read_bytes() == damaged
    path.unlink()
    (two_parts / DIGESTS / path.name).unlink()
    again = run_here(*arguments)
    assert (again.summary["objects_read"], again.summary["rows"]) == (4, 8)


def test_a_stop_between_digest_and_part_does_no_harm(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    parts = PartFiles(store, "parquet", SCHEMA)
    parts.create(0, to_table(ROWS[:1], SCHEMA))
    before = (tmp_path / parts.name(0)).read_bytes()
    parts.rewrite(0, lambda _: to_table(ROWS, SCHEMA))
    (tmp_path / parts.name(0)).write_bytes(before)  # as if only the digest had been written
    (read,) = parts.read([0])
    assert read.num_rows == 1
    parts.rewrite(0, lambda _: to_table(ROWS[:2], SCHEMA))
    (read,) = parts.read([0])
    assert read.num_rows == 2


def test_parts_of_an_earlier_release_have_no_digest_and_are_read(tmp_path: Path) -> None:
    parts = PartFiles(FolderStore(tmp_path), "parquet", SCHEMA)
    parts.create(0, to_table(ROWS, SCHEMA))
    (tmp_path / DIGESTS / parts.name(0)).unlink()
    (read,) = parts.read([0])
    assert read.num_rows == len(ROWS)


def test_any_flipped_byte_of_a_segment_is_noticed(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    Journal(store, "run", SCHEMA, lambda name, table: None).write(ROWS)
    (name,) = store.names(JOURNAL)
    assert read_segment(store, name, SCHEMA).equals(to_table(ROWS, SCHEMA))
    whole = (tmp_path / name).read_bytes()
    for position in range(0, len(whole), 17):
        (tmp_path / name).write_bytes(flipped(whole, position))
        with pytest.raises(CannotRunError, match="is damaged"):
            read_segment(store, name, SCHEMA)
