"""The series table: one row per series, always that of the slice table beside it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch.faults import CannotRunError
from batch.series import files
from batch.series.files import RECORD
from batch.series.slices import part_of, passes
from batch.series.sorting import batches_of
from batch.store.stores import FolderStore
from batch.table import output
from batch.tracking import metrics_of
from tests.batch.conftest import Run, png
from tests.stand_in_series import slice_png

COLUMNS = [
    "uri", "etag", "size_bytes", "last_modified",
    "label", "probability", "p_adenocarcinoma", "p_normal", "error", "out_of_domain", "undecided",
    "model_uri", "model_digest", "scored_at",
    "series_uid", "position_mm", "slice_index", "study_uid",
]  # fmt: skip
SERIES_COLUMNS = [
    "series_uid", "label", "probability", "p_adenocarcinoma", "p_normal", "undecided", "error",
    "slices", "scored", "skipped", "failed", "out_of_domain_share",
    "key_slice_uri", "key_position_mm", "first_mm", "last_mm", "gaps", "duplicate_positions",
    "note", "model_uri", "model_digest", "slices_digest", "study_uid",
]  # fmt: skip


@dataclass
class Places:
    """A folder of slices and an output."""

    scans: Path
    out: Path

    def put(
        self,
        name: str,
        series: str | None,
        position_mm: float | None,
        grey: int,
        study: str | None = None,
    ) -> str:
        """Write a slice and return its URI."""
        path = self.scans / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(slice_png(series, position_mm, grey, study))
        return path.as_uri()

    def slices(self) -> list[dict[str, Any]]:
        """Return the slice table."""
        tables = [pq.read_table(part) for part in sorted(self.out.glob("part-*.parquet"))]
        assert len({str(table.schema) for table in tables}) == 1
        rows: list[dict[str, Any]] = pa.concat_tables(tables).to_pylist()
        return rows

    def series(self) -> dict[str, dict[str, Any]]:
        """Return the series table by series, and check that each is there once."""
        tables = [pq.read_table(part) for part in sorted(self.out.glob("series/part-*"))]
        rows = pa.concat_tables(tables).to_pylist()
        assert len({row["series_uid"] for row in rows}) == len(rows)
        return {row["series_uid"]: row for row in rows}

    def check(self) -> None:
        """Check that the series table is that of the slice table."""
        slices, series = self.slices(), self.series()
        counts = Counter(row["series_uid"] for row in slices if row["series_uid"])
        assert {name: row["slices"] for name, row in series.items()} == counts
        record = json.loads((self.out / RECORD).read_text())
        assert {row["slices_digest"] for row in series.values()} == {record["slices"]}
        for name, row in series.items():
            own = [one for one in slices if one["series_uid"] == name]
            answered = [one for one in own if one["error"] is None]
            assert row["failed"] == len(own) - len(answered)
            assert {one["model_digest"] for one in own} == {row["model_digest"]}
            if answered and row["error"] is None:
                key = next(one for one in own if one["uri"] == row["key_slice_uri"])
                assert row["p_adenocarcinoma"] == key["p_adenocarcinoma"]
            placed = [one for one in own if one["position_mm"] is not None]
            placed.sort(key=lambda one: (-one["position_mm"], one["uri"]))
            assert [one["slice_index"] for one in placed] == list(range(len(placed)))


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """Return three series whose slices lie among one another, and what is of none."""
    made = Places(tmp_path / "scans", tmp_path / "out")
    for n in range(12):
        # The last one is the darkest.
        made.put(f"{n:02d}-a", "1.2.a", 30.0 - n, 200 - n, "1.9.1" if n else None)
        made.put(f"{n:02d}-b", "1.2.b", 5.0 * n, 40 if n == 3 else 180, f"1.9.{n % 2}")
    made.put("only", "1.2.c", None, 128)
    made.put("picture.png", None, None, 90)
    (made.scans / "bad").write_bytes(b"bad")
    return made


@pytest.fixture
def arguments(places: Places, series_model: Path) -> tuple[object, ...]:
    """Return the job's arguments."""
    return places.scans, places.out, "--model-uri", series_model, "--no-tracking"


def test_one_row_per_series_beside_the_slice_table(
    places: Places, arguments: tuple[object, ...], run_series: Run, series_model: Path
) -> None:
    result = run_series(*arguments, "--batch-size", 5)
    assert result.code == 1, result.err
    slices = places.slices()
    assert list(slices[0]) == COLUMNS
    assert all(row["label"] is not None for row in slices if row["error"] is None), (
        "slices that the model would skip in a series have their own row here"
    )
    of = {row["uri"].rpartition("/")[2]: row for row in slices}
    assert (of["11-a"]["series_uid"], of["11-a"]["position_mm"]) == ("1.2.a", 19.0)
    assert (of["11-a"]["slice_index"], of["00-a"]["slice_index"]) == (11, 0)
    assert (of["only"]["series_uid"], of["only"]["slice_index"]) == ("1.2.c", None)
    assert of["picture.png"]["series_uid"] is None
    assert [of[n]["study_uid"] for n in ("00-a", "11-a", "02-b")] == [None, "1.9.1", "1.9.0"]
    series = places.series()
    assert list(series) == ["1.2.a", "1.2.b", "1.2.c"]
    assert list(series["1.2.a"]) == SERIES_COLUMNS
    places.check()
    studies = {name: row["study_uid"] for name, row in series.items()}
    assert studies == {"1.2.a": "1.9.1", "1.2.b": None, "1.2.c": None}, "1.2.b has two"
    row = series["1.2.b"]
    assert row["key_slice_uri"] == (places.scans / "03-b").as_uri()
    assert (row["label"], row["key_position_mm"]) == ("adenocarcinoma", 15.0)
    assert row["probability"] == pytest.approx(1 - 40 / 255)
    assert (row["first_mm"], row["last_mm"], row["error"]) == (0.0, 55.0, None)
    assert series["1.2.a"]["skipped"] > 0
    assert series["1.2.a"]["scored"] + series["1.2.a"]["skipped"] == 12
    assert row["model_uri"] == series_model.as_uri()
    assert row["model_digest"] == result.summary["model_digest"]
    expected = {
        "series": 3, "series_answered": 2, "series_undecided": 1, "series_failed": 0,
        "slices_without_series": 2,
    }  # fmt: skip
    assert {name: result.summary[name] for name in expected} == expected
    assert "; 3 series: 2 answered, 1 undecided, 0 failed." in result.err
    assert (places.out / "_SUCCESS").exists()


def test_the_answer_does_not_depend_on_batches_or_parts(
    places: Places,
    arguments: tuple[object, ...],
    run_series: Run,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    run_series(*arguments)
    expected = places.series()
    monkeypatch.setattr(output, "ROWS_PER_PART", 4)
    monkeypatch.setattr(files, "ROWS_PER_PART", 1)
    monkeypatch.setattr("batch.series.answers.CHUNK_SLICES", 1)
    monkeypatch.setattr("batch.series.slices.ROWS_PER_PASS", 3)
    other = Places(places.scans, tmp_path / "other")
    run_series(places.scans, other.out, *arguments[2:], "--batch-size", 1)
    found = other.series()
    other.check()
    for rows in (expected, found):
        for row in rows.values():
            del row["slices_digest"]
    assert found == expected
    for part in other.out.glob("series/part-*"):
        number = int(part.stem.partition("-")[2])
        assert all(
            part_of(name, 4) == number for name in pq.read_table(part)["series_uid"].to_pylist()
        )
    assert len(list(other.out.glob("series/part-*"))) == 4


def test_it_follows_changed_added_and_vanished_slices(
    places: Places, arguments: tuple[object, ...], run_series: Run
) -> None:
    run_series(*arguments)
    before = places.series()
    unchanged = run_series(*arguments)
    assert unchanged.summary["series"] == 3
    assert "; 3 series: " in unchanged.err
    assert places.series() == before
    places.put("00-a", "1.2.b", 2.0, 250)  # to another series
    places.put("new", "1.2.a", -40.0, 10)
    (places.scans / "only").unlink()
    (places.scans / "05-b").write_bytes(b"bad")
    summary = run_series(*arguments).summary
    assert summary["objects_read"] == 3
    assert summary["series"] == 2
    places.check()
    after = places.series()
    assert (after["1.2.a"]["slices"], after["1.2.b"]["slices"]) == (12, 12)
    assert after["1.2.a"]["key_slice_uri"] == (places.scans / "new").as_uri()
    for path in places.scans.glob("*-b"):
        path.unlink()
    (places.scans / "00-a").unlink()
    assert run_series(*arguments).summary["series"] == 1
    places.check()


def test_a_table_that_is_damaged_gone_or_of_other_slices_is_made_anew(
    places: Places, arguments: tuple[object, ...], run_series: Run
) -> None:
    run_series(*arguments)
    expected = places.series()
    part = places.out / "series/part-00000.parquet"
    for spoil in (
        lambda: part.write_bytes(part.read_bytes()[:-1] + b"?"),
        part.unlink,
        (places.out / RECORD).unlink,
        lambda: (places.out / RECORD).write_text("{}"),
        lambda: (places.out / "series/part-00001.parquet").write_bytes(part.read_bytes()),
    ):
        spoil()
        summary = run_series(*arguments).summary
        assert (summary["objects_read"], summary["series"]) == (0, 3)
        assert places.series() == expected


def test_a_stop_between_any_two_writes_leaves_at_most_one_row_and_the_next_run_the_right_ones(
    places: Places,
    arguments: tuple[object, ...],
    run_series: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(output, "ROWS_PER_PART", 20)
    monkeypatch.setattr(files, "ROWS_PER_PART", 3)
    run_series(*arguments)
    write, delete, left = FolderStore.write, FolderStore.delete, [0]

    def count_down(name: str) -> None:
        if name.startswith(("part-", "_digests/", "series/", RECORD)):
            left[0] -= 1
            if left[0] == 0:
                raise CannotRunError("power cut")

    def stopping_write(self: FolderStore, name: str, data: bytes, **only_if: Any) -> str:
        count_down(name)
        return write(self, name, data, **only_if)

    def stopping_delete(self: FolderStore, names: Iterable[str]) -> None:
        for name in names:
            count_down(name)
            delete(self, [name])

    stops = 0
    while True:
        # The number of series changes, and with it that of the parts.
        places.put("only", f"1.2.{stops}", 1.0, 100)
        for n in range(3):
            path = places.scans / f"extra-{n}"
            if stops % 2:
                path.unlink(missing_ok=True)
            else:
                places.put(path.name, f"1.3.{n}", float(stops), 60)
        left[0] = stops + 1
        with monkeypatch.context() as broken:
            broken.setattr(FolderStore, "write", stopping_write)
            broken.setattr(FolderStore, "delete", stopping_delete)
            stopped = run_series(*arguments)
        if left[0] > 0:
            break
        assert stopped.code == 2, stopped.err
        assert not (places.out / "_SUCCESS").exists()
        if list(places.out.glob("series/part-*")):
            places.series()  # never two rows of one series
        stops += 1
        assert run_series(*arguments).code == 1
        places.check()
    assert stops >= 8
    places.check()


def test_no_series_leaves_the_table_out_and_a_later_run_makes_it_without_reading(
    places: Places, arguments: tuple[object, ...], run_series: Run
) -> None:
    result = run_series(*arguments, "--no-series")
    assert result.summary["series"] is None
    assert result.summary["slices_without_series"] == 2
    assert not (places.out / "series").exists()
    assert {row["slice_index"] for row in places.slices()} == {None, *range(12)}
    later = run_series(*arguments).summary
    assert (later["objects_read"], later["series"]) == (0, 3)
    places.check()
    assert run_series(*arguments, "--no-series").summary["series"] == 3, "it is still the right one"
    places.put("new", "1.2.d", 0.0, 10)
    assert run_series(*arguments, "--no-series").summary["series"] is None
    assert not (places.out / "series").exists(), "one of other slices would contradict them"


def test_another_model_version_answers_anew_and_limit_says_what_it_left(
    places: Places,
    arguments: tuple[object, ...],
    run_series: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = run_series(*arguments).summary
    monkeypatch.setattr("batch.pyfunc.model_digest", lambda folder: "ab" * 32)
    some = run_series(*arguments, "--limit", 2)
    assert (some.summary["objects_read"], some.summary["series_failed"]) == (2, 3)
    for row in places.series().values():
        assert "by an earlier model; run the job without --limit" in row["error"]
        assert (row["label"], row["model_digest"]) == (None, "ab" * 32)
    second = run_series(*arguments).summary
    assert second["model_digest"] != first["model_digest"]
    assert (second["series"], second["series_failed"]) == (3, 0)
    places.check()


def test_csv_holds_the_same_series(
    places: Places, arguments: tuple[object, ...], run_series: Run, tmp_path: Path
) -> None:
    run_series(*arguments)
    csv = (places.scans, tmp_path / "csv", *arguments[2:], "--format", "csv")
    assert run_series(*csv).summary["series"] == 3
    left = pd.read_csv(tmp_path / "csv/series/part-00000.csv")
    right = pd.read_parquet(places.out / "series/part-00000.parquet")
    assert list(left.columns) == list(right.columns) == SERIES_COLUMNS
    same = [name for name in SERIES_COLUMNS if name != "slices_digest"]
    left, right = (one[same].astype(object).fillna("null") for one in (left, right))
    assert left.equals(right)
    again = run_series(*csv).summary
    assert (again["objects_read"], again["series"]) == (0, 3)


def test_series_that_cannot_be_answered_have_an_error_and_cost_the_others_nothing(
    places: Places, series_model: Path, run_series: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batch.series.answers.MAX_SLICES", 12)
    places.put("raises", "raises", 1.0, 10)
    for n in range(13):
        places.put(f"many-{n}", "many", float(n), 10)
    table = places.scans.parent / "series.csv"
    lines = [f"{p.name},{p.name.rpartition('-')[2]}" for p in sorted(places.scans.iterdir())]
    table.write_text("\n".join(["path,series", *(n for n in lines if "many" not in n),
                                *(f"many-{n},many" for n in range(13))]))  # fmt: skip
    run = (places.scans, places.out, "--model-uri", series_model, "--no-tracking")
    result = run_series(*run, "--series-table", table)
    series = places.series()
    assert series["raises"]["error"] == "model_failed: RuntimeError: no answer"
    assert "Expected at most 12 slices in a series, received 13" in series["many"]["error"]
    assert series["many"]["slices"] == 13
    assert series["bad"]["error"].startswith("Expected a scored slice")
    assert {name for name, row in series.items() if row["error"] is None} == {
        "a", "b", "only", "picture.png",
    }  # fmt: skip
    assert result.summary["series_failed"] == 3
    places_of = {row["key_slice_uri"] for row in series.values() if row["error"] is None}
    assert (places.scans / "03-b").as_uri() in places_of


def test_a_sort_that_needs_more_memory_gets_more(
    places: Places,
    arguments: tuple[object, ...],
    run_series: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("batch.series.finish.MEMORY_LIMITS", ("1MB", "128MB"))
    assert run_series(*arguments).summary["series"] == 3
    places.check()
    monkeypatch.setattr("batch.series.finish.MEMORY_LIMITS", ("1MB",))
    places.put("new", "1.2.a", -40.0, 10)
    stopped = run_series(*arguments)
    assert stopped.code == 2
    assert "Sorting slices by series needs more than 1MB of memory." in stopped.err


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("Out of Memory Error: failed to pin block", duckdb.OutOfMemoryException),
        ("IO Error: Could not write file: No space left on device", duckdb.Error),
    ],
)
def test_what_duckdb_says_through_arrow_is_duckdbs_error(said: str, kind: type[Exception]) -> None:
    class Reader:
        def __enter__(self) -> Reader:
            return self

        def __exit__(self, *_error: object) -> None:
            pass

        def read_next_batch(self) -> pa.RecordBatch:
            raise OSError(said)

    class Relation:
        def to_arrow_reader(self, batch_size: int) -> Reader:
            return Reader()

    with pytest.raises(kind, match=said[:12]) as raised:
        next(batches_of(Relation(), 10))  # type: ignore[arg-type]
    assert raised.type is kind


@pytest.mark.parametrize(("rows", "parts"), [(0, 1), (10, 1), (1050, 1), (1050, 4), (500, 64)])
def test_passes_have_each_series_once_in_the_order_of_parts(
    rows: int, parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batch.series.slices.ROWS_PER_PASS", 100)
    found = list(passes(rows, parts))
    shares = [(part, one.share) for one in found for part in range(one.first, one.last + 1)]
    assert shares == [(part, share) for part in range(parts) for share in range(found[0].shares)]
    assert rows / 100 <= len(found) <= 2 * rows / 100 + 2


def test_numbers_of_series_are_metrics(arguments: tuple[object, ...], run_series: Run) -> None:
    metrics = metrics_of(run_series(*arguments).summary)
    expected = {
        "series": 3.0, "series_answered": 2.0, "series_undecided": 1.0, "series_failed": 0.0,
    }  # fmt: skip
    assert {name: metrics.get(name) for name in expected} == expected


def test_models_that_answer_slices_only_work_as_before_and_say_so_once(
    places: Places, run_here: Run, stand_in_model: Path
) -> None:
    run = (places.scans, places.out, "--model-uri", stand_in_model, "--no-tracking")
    result = run_here(*run)
    assert result.err.count("No series table is made: this model answers slices only.") == 1
    assert result.summary["series"] is None
    assert not (places.out / "series").exists()
    assert not (places.out / RECORD).exists()
    assert set(places.slices()[0]) & {"series_uid", "position_mm", "slice_index"} == set()


def test_pictures_without_a_table_have_no_series_and_the_log_says_what_to_do(
    tmp_path: Path, run_series: Run, series_model: Path
) -> None:
    (tmp_path / "scans").mkdir()
    for n in range(3):
        (tmp_path / f"scans/{n}.png").write_bytes(png(n))
    run = (tmp_path / "scans", tmp_path / "out", "--model-uri", series_model, "--no-tracking")
    result = run_series(*run)
    assert "no slice says of which series it is. For pictures, --series-table" in result.err
    assert (result.code, result.summary["series"]) == (0, None)
    assert run_series(*run).summary["slices_without_series"] == 3
