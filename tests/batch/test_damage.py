"""Damaged output, files that change while they are read, and defects of the job itself."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from batch.source.fetch import fetch_object
from batch.source.listing import local_object
from tests.batch.conftest import Run, png


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    """Return a folder of three scans and an output."""
    scans = tmp_path / "scans"
    scans.mkdir()
    for n in range(3):
        (scans / f"{n}.png").write_bytes(png(n))
    return scans, tmp_path / "scores"


@pytest.mark.parametrize(("file_format", "damage"), [("parquet", b"PAR1"), ("csv", b'uri,"\n1')])
def test_a_damaged_part_is_named_and_left_alone(
    places: tuple[Path, Path],
    run_here: Run,
    stand_in_model: Path,
    file_format: str,
    damage: bytes,
) -> None:
    arguments = (*places, "--model-uri", stand_in_model, "--no-tracking", "--format", file_format)
    assert run_here(*arguments).code == 0
    part = places[1] / f"part-00000.{file_format}"
    part.write_bytes(damage)
    result = run_here(*arguments)
    assert result.code == 2
    assert f"part-00000.{file_format} is damaged" in result.err
    assert "Traceback" not in result.err
    assert part.read_bytes() == damage
    part.unlink()
    assert run_here(*arguments).summary["rows"] == 3


def test_a_file_that_changes_while_it_is_read_is_scored_anew_next_time(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = places[0] / "1.png"
    listed = local_object(path)
    read_bytes = Path.read_bytes

    def read_then_change(self: Path) -> bytes:
        data = read_bytes(self)
        self.write_bytes(data + b"more")
        return data

    monkeypatch.setattr(Path, "read_bytes", read_then_change)
    fetched = fetch_object(None, listed)
    assert fetched.data == png(1)
    assert fetched.scan.etag == listed.etag != local_object(path).etag


def test_a_defect_does_not_end_with_the_code_for_rows_with_errors(
    places: tuple[Path, Path],
    run_here: Run,
    stand_in_model: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr("batch.job.summarise", broken)
    result = run_here(*places, "--model-uri", stand_in_model, "--no-tracking")
    assert result.code == 2
    assert "RuntimeError: a defect" in result.err
    monkeypatch.undo()
    assert pq.read_table(places[1] / "part-00000.parquet").num_rows == 3
    assert not (places[1] / "_SUCCESS").exists()
