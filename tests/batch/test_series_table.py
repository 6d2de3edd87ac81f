"""The table of series that a user gives for slices which do not say of which series they are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.batch.conftest import Bucket, Run, png
from tests.batch.test_series import Places


@pytest.fixture
def pictures(tmp_path: Path) -> Places:
    """Return a folder of ten pictures, and an output."""
    scans = tmp_path / "scans"
    (scans / "a b").mkdir(parents=True)
    for n in range(10):
        (scans / f"a b/{n}.png").write_bytes(png(100 + n))
    return Places(scans, tmp_path / "out")


def write(path: Path, *lines: str) -> Path:
    """Write a table."""
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8-sig")
    return path


def test_pictures_get_series_from_a_table_which_may_change(
    pictures: Places, tmp_path: Path, run_series: Run, series_model: Path
) -> None:
    run = (pictures.scans, pictures.out, "--model-uri", series_model, "--no-tracking")
    assert run_series(*run).summary["series"] is None
    lines = [f"a b/{n}.png,patient {n // 5},{-n / 2}" for n in range(9)]
    table = write(
        tmp_path / "t.csv", "path,series,position_mm", *lines, lines[0], "gone.png,patient 1,"
    )
    result = run_series(*run, "--series-table", table)
    assert result.code == 0, result.err
    assert (result.summary["objects_read"], result.summary["series"]) == (0, 2)
    assert result.summary["slices_without_series"] == 1
    assert "1 of 10 lines of the table of series name no slice that was listed." in result.err
    pictures.check()
    places = {row["uri"][-5]: row["slice_index"] for row in pictures.slices()}
    assert [places[str(n)] for n in range(10)] == [0, 1, 2, 3, 4, 0, 1, 2, 3, None]
    series = pictures.series()
    assert (series["patient 0"]["first_mm"], series["patient 0"]["last_mm"]) == (-2.0, 0.0)
    assert series["patient 0"]["key_slice_uri"].endswith("/a%20b/0.png")

    write(table, "path,series,position_mm", *(f"a b/{n}.png,all,{n}" for n in range(10)))
    changed = run_series(*run, "--series-table", table).summary
    assert (changed["objects_read"], changed["series"], changed["slices_without_series"]) == (
        0, 1, 0,
    )  # fmt: skip
    pictures.check()
    refused = run_series(*run)
    assert refused.code == 2
    assert "was made with a --series-table of series and position_mm" in refused.err
    pictures.check()


def test_uris_on_s3_and_a_table_on_s3(bucket: Bucket, run_series: Run, series_model: Path) -> None:
    bucket.put({f"scans/{n}.png": png(n) for n in range(4)})
    lines = [f"s3://{bucket.name}/scans/{n}.png,s{n % 2}" for n in range(4)]
    bucket.put({"tables/series.csv": "\n".join(["uri,series", *lines]).encode()})
    result = run_series(
        f"s3://{bucket.name}/scans/", f"s3://{bucket.name}/scores/", "--model-uri", series_model,
        "--no-tracking", "--series-table", f"s3://{bucket.name}/tables/series.csv",
        **bucket.server.env(),
    )  # fmt: skip
    assert result.code == 0, result.err
    assert result.summary["series"] == 2
    rows = bucket.table("scores/series/").to_pylist()
    assert {row["series_uid"]: row["slices"] for row in rows} == {"s0": 2, "s1": 2}


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ([], r"has the columns \(none\)"),
        (["name,series", "a,b"], "has the columns name, series. Expected CSV with the columns"),
        (["path,series", "a,"], "Line 2 of .* names no series"),
        (["path,series", ",b"], "Line 2 of .* names no object"),
        (["path,series,position_mm", "a,b,1.5", "c,b,high"], "Line 3 .* received 'high'"),
        (["path,series,position_mm", "a,b,nan"], "expected a number of millimetres"),
        (["uri,series", "a b/1.png,b"], "a `uri` that begins with s3:// or file://"),
        (["path,series", "a,b", "x,y", "a,c"], "Lines 2 and 4 of .* say different things"),
    ],
)
def test_a_table_that_is_wrong_is_refused_before_anything_is_read(
    pictures: Places,
    tmp_path: Path,
    run_series: Run,
    series_model: Path,
    lines: list[str],
    sentence: str,
) -> None:
    table = write(tmp_path / "t.csv", *lines)
    run = (pictures.scans, pictures.out, "--model-uri", series_model, "--no-tracking")
    result = run_series(*run, "--series-table", table)
    assert result.code == 2
    assert re.search(sentence, result.err), result.err
    assert not list(pictures.out.glob("part-*"))


def test_a_table_that_is_not_there_or_no_text_is_refused(
    pictures: Places, tmp_path: Path, run_series: Run, series_model: Path
) -> None:
    run = (pictures.scans, pictures.out, "--model-uri", series_model, "--no-tracking")
    missing = run_series(*run, "--series-table", tmp_path / "none.csv")
    assert missing.code == 2
    assert "Cannot read the table of series" in missing.err
    (tmp_path / "t.csv").write_bytes(b"path,series\n\xff\xfe,b\n")
    assert run_series(*run, "--series-table", tmp_path / "t.csv").code == 2


def test_a_table_for_a_model_that_answers_slices_only_is_refused(
    pictures: Places, tmp_path: Path, run_here: Run, stand_in_model: Path
) -> None:
    table = write(tmp_path / "t.csv", "path,series", "a b/1.png,b")
    run = (pictures.scans, pictures.out, "--model-uri", stand_in_model, "--no-tracking")
    result = run_here(*run, "--series-table", table)
    assert result.code == 2
    assert "--series-table needs a model that answers series" in result.err
