"""Locations, selection, the resume index and the progress line."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

import pytest

from batch.faults import CannotRunError, without_passwords
from batch.locations import Access, Location, make_client, parse_timestamp
from batch.progress import RunState, progress_line
from batch.settings import Concurrency
from batch.source.listing import list_objects
from batch.table.index import DoneIndex, version_of

WHEN = datetime(2026, 11, 1, tzinfo=UTC)


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


def test_index_finds_versions_and_parts_at_thirty_bytes_a_row() -> None:
    index = DoneIndex()
    number = 5000
    uris = [f"s3://bucket/scans/{n:07d}.png" for n in range(number)]
    versions = [version_of(f"etag{n}", "d") for n in range(number)]
    for part in range(2):
        rows = slice(part, None, 2)
        index.add(uris[rows], versions[rows], [n % 10 == 0 for n in range(number)][rows], part)
    index.freeze()
    assert len(index) == number
    rows = index.find([uris[77], "s3://bucket/other", uris[0]])
    assert rows[1] == -1
    assert index.versions[rows[0]] == versions[77]
    assert index.failed[rows[2]]
    assert not index.failed[rows[0]]
    assert index.parts_of([uris[77], uris[76], "s3://bucket/other"]).tolist() == [1, 0, -1]
    held = [index.keys, index.versions, index.parts, index.failed, index.seen]
    assert sum(array.nbytes for array in held) == 30 * number
    assert sys.getsizeof(index._batches) < 100


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
