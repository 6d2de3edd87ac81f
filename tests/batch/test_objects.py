"""Locations, selection, the resume index and the progress line."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from batch.__main__ import main
from batch.faults import CannotRunError, without_passwords
from batch.locations import Access, Location, make_client, parse_timestamp
from batch.progress import RunState, progress_line
from batch.settings import Concurrency
from batch.source.listing import list_objects
from batch.table.index import DoneIndex, key_of, version_of
from tests.batch.conftest import ROOT

WHEN = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.mark.parametrize("text", ["gs://b/scans", "abfs://c@account/scans", "az://c/scans"])
@pytest.mark.parametrize("place", [0, 1])
def test_other_clouds_are_refused_with_what_to_do(
    text: str, place: int, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["in", "out"]
    arguments[place] = text
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "Error" in line]
    assert f"Expected s3://bucket/prefix/ or a local folder. Received: '{text}'." in line
    assert line.endswith("docs/batch.md says how to score a copy.")


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("s3://b", "s3://b/"),
        ("s3://b/", "s3://b/"),
        ("s3://b/a/c", "s3://b/a/c/"),
        ("s3://b/a?x#y/", "s3://b/a?x#y/"),
        ("/data/a b", "file:///data/a%20b"),
        ("file:///data/a%20b", "file:///data/a%20b"),
    ],
)
def test_a_prefix_is_a_folder(text: str, uri: str) -> None:
    assert Location.parse(text).uri == uri
    assert Location.parse(Location.parse(text).uri) == Location.parse(text)


@pytest.mark.parametrize("text", ["s3://", "s3:///key", "gs://b/a", "https://b/a", "", " "])
def test_other_places_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="Expected s3://bucket/prefix/"):
        Location.parse(text)


@pytest.mark.parametrize(
    ("one", "other", "inside"),
    [
        ("s3://b/a/", "s3://b/a/b/", True),
        ("s3://b/", "s3://b/a/", True),
        ("s3://b/a/", "s3://b/ab/", False),
        ("s3://b/a/", "s3://c/a/", False),
        ("/data/a", "/data/a/out", True),
        ("/data/a", "/data/ab", False),
        ("/data/a", "s3://data/a", False),
    ],
)
def test_overlap(one: str, other: str, inside: bool) -> None:
    assert Location.parse(one).overlaps(Location.parse(other)) is inside
    assert Location.parse(other).overlaps(Location.parse(one)) is inside


def filled_index(number: int) -> tuple[DoneIndex, list[str], list[int]]:
    """Return an index of objects that alternate between parts 3 and 7, every tenth failed."""
    index = DoneIndex()
    uris = [f"s3://bucket/scans/{n:07d}.png" for n in range(number)]
    versions = [version_of(f"etag{n}", "d") for n in range(number)]
    for begin, part in ((0, 3), (1, 7)):
        rows = slice(begin, None, 2)
        index.add(uris[rows], versions[rows], [n % 10 == 0 for n in range(number)][rows], part)
    index.freeze()
    return index, uris, versions


def test_index_finds_versions_and_parts() -> None:
    index, uris, versions = filled_index(5001)
    assert len(index) == 5001
    found = index.find([uris[77], "s3://bucket/other", uris[0], uris[5000]])
    assert (found.rows >= 0).tolist() == [True, False, True, True]
    assert found.versions[[0, 2, 3]].tolist() == [versions[77], versions[0], versions[5000]]
    assert found.failed.tolist() == [False, False, True, True]
    places = index.parts_of([uris[77], uris[76], "s3://bucket/other", uris[5000], uris[4999]])
    assert places.tolist() == [7, 3, -1, 3, 7]
    assert (index.find(uris).rows >= 0).all(), "more than one query asks for"
    empty = DoneIndex()
    empty.freeze()
    assert empty.find(uris[:2]).rows.tolist() == empty.parts_of(uris[:2]).tolist() == [-1, -1]
    assert (len(empty), empty.count_unseen(), list(empty.unseen())) == (0, 0, [])


def test_index_knows_which_objects_were_not_listed() -> None:
    index, uris, _versions = filled_index(1003)
    gone = {uris[n] for n in (0, 500, 1002)}
    for start in range(0, len(uris), 100):
        page = [uri for uri in uris[start : start + 100] if uri not in gone]
        index.mark_seen(index.find(page).rows)
    assert index.count_unseen() == 3
    assert list(index.unseen()) == [(3, {key_of(uri) for uri in gone})]
    index.mark_seen(index.find(sorted(gone)).rows)
    assert (index.count_unseen(), list(index.unseen())) == (0, [])


def test_memory_of_the_index_does_not_grow_with_its_rows(tmp_path: Path) -> None:
    grown = """
import re
from pathlib import Path
from batch.table.index import DoneIndex, KeySet

def peak_kb(parts):
    index, met = DoneIndex(), KeySet()
    for part in range(parts):
        uris = [f"s3://bucket/{part}/{n}" for n in range(10_000)]
        index.add(uris, range(10_000), [False] * 10_000, part)
        assert all(met.add(uris))
    index.freeze()
    for part in range(parts):
        index.mark_seen(index.find([f"s3://bucket/{part}/{n}" for n in range(10_000)]).rows)
    assert index.count_unseen() == 0
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])

print(-peak_kb(4) + peak_kb(16))
"""
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", grown],
        env=environment, cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    # 120,000 rows more would be 9 MB in arrays.
    assert int(done.stdout) < 3_000
    assert list(tmp_path.iterdir()) == [], "a kill leaves no file behind"


def test_a_full_disk_ends_the_job_with_a_sentence() -> None:
    index, uris, _versions = filled_index(10)
    index._rows._database.execute("PRAGMA max_page_count = 1")
    with pytest.raises(CannotRunError, match="Free space in the temporary folder"):
        index.add(
            [f"{uri}-{n}" for uri in uris for n in range(100)], range(1000), [False] * 1000, 8
        )


def test_versions_differ_when_content_or_model_does() -> None:
    of = version_of("e", "d")
    assert of == version_of("e", "d")
    assert of not in {version_of("f", "d"), version_of("e", "c"), version_of("ed", "")}


@pytest.mark.parametrize("batch_size", [1, 16, 64, 65, 1000])
@pytest.mark.parametrize("workers", [1, 16, 256])
def test_concurrency_leaves_room_for_a_batch_beside_rows_being_written(
    batch_size: int, workers: int
) -> None:
    concurrency = Concurrency(batch_size, workers)
    assert concurrency.read_ahead >= batch_size
    # A segment may wait to fill and another be on its way, and a whole batch still fits.
    assert 2 * concurrency.segment_rows + batch_size <= concurrency.window


def test_progress_line_has_rate_and_time_left() -> None:
    run = RunState(objects_skipped=100, rows_scored=58, rows_failed=2, scoring_since=0)
    assert progress_line(run, 30.0) == "160 rows, 2.0/s, 2 errors"
    run.objects_total = 400
    assert progress_line(run, 30.0) == "160 rows of 400, 2.0/s, 2 errors, about 0:02:00 left"


@pytest.mark.parametrize(
    ("endpoint", "variable", "sentence"),
    [
        ("localhost:9000", None, "Expected --endpoint-url"),
        (None, ("AWS_ENDPOINT_URL", "localhost:9000"), "Expected --endpoint-url"),
        (None, ("AWS_PROFILE", "no-such-profile"), "no usable AWS credentials"),
        (None, ("AWS_CONFIG_FILE", __file__), "Unable to parse config file"),
    ],
)
def test_settings_that_cannot_be_used_are_said_in_one_sentence(
    endpoint: str | None,
    variable: tuple[str, str] | None,
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if variable:
        monkeypatch.setenv(*variable)
    with pytest.raises(CannotRunError, match=sentence):
        make_client(Access(endpoint_url=endpoint))


@pytest.mark.parametrize(
    "value",
    [
        "2026-11-01T00:00:00.000Z",
        "2026-11-01T00:00:00Z",
        "Sun, 01 Nov 2026 00:00:00 GMT",
        "2026-11-01T02:00:00+02:00",
        "1793491200",
        1793491200,
        1793491200.0,
    ],
)
def test_times_are_parsed_whichever_way_a_server_writes_them(value: object) -> None:
    assert parse_timestamp(value) == WHEN
    assert parse_timestamp(value).utcoffset() is not None


@pytest.mark.parametrize("value", ["", "Z", "soon GMT"])
def test_what_is_no_time_is_refused_as_botocore_refuses_it(value: str) -> None:
    with pytest.raises(ValueError, match="Invalid timestamp"):
        parse_timestamp(value)


def test_an_input_that_is_a_file_is_called_one() -> None:
    with pytest.raises(CannotRunError, match="is a file; expected a folder"):
        next(list_objects(Location.parse(__file__), None))


def test_passwords_in_addresses_are_not_repeated() -> None:
    text = "API request to http://me:secret@host:5000/api failed; see https://host/a@b"
    assert without_passwords(text) == (
        "API request to http://host:5000/api failed; see https://host/a@b"
    )
