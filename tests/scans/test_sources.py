from __future__ import annotations

from pathlib import Path

import pytest

from scans.errors import SourceError
from scans.fetch import fetch_scans
from scans.limits import Limits
from scans.sources import redacted, source_kind


def test_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scans.zip").write_bytes(b"")
    # A local name wins over what also looks like a Drive id.
    (tmp_path / "a-folder-with-a-long-name-of-letters").mkdir()
    kinds = {
        "phantom": "phantom",
        "1z0mreUtRmR-P-magILsDR3T7M6IkGXtY": "drive",
        "https://drive.google.com/file/d/1z0mreUtRmR-P-magILsDR3T7M6IkGXtY/view": "drive",
        "https://example.org/scans.zip?token=1": "url",
        "s3://bucket/scans.zip": "s3",
        "s3://bucket/prefix/": "s3",
        "scans.zip": "zip",
        "a-folder-with-a-long-name-of-letters": "folder",
        str(tmp_path): "folder",
    }
    assert {source: source_kind(source) for source in kinds} == kinds


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("", "Expected 'phantom', a Google Drive share link"),
        ("fantom", "Did you mean 'phantom'?"),
        ("scan.zip", "Did you mean 'scans.zip'?"),
        ("/no/such/folder", "No such file or folder."),
        ("ftp://example.org/scans.zip", "Received: 'ftp://example.org/scans.zip'"),
        ("s3://bucket", "Expected s3://bucket/key.zip or s3://bucket/prefix/"),
    ],
)
def test_what_is_no_source(
    source: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scans.zip").write_bytes(b"")
    with pytest.raises(SourceError) as caught:
        source_kind(source)
    assert said in str(caught.value)


def test_secrets_in_addresses_are_left_out() -> None:
    assert redacted("https://me:pw@host:8/x.zip?sig=1#f") == "https://host:8/x.zip"
    assert (
        redacted("https://drive.google.com/open?id=abc") == "https://drive.google.com/open?id=abc"
    )
    assert redacted("/data/a?b.zip") == "/data/a?b.zip"


def test_sha256_is_for_one_zip(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="Expected sha256 as 64 hexadecimal digits"):
        fetch_scans("phantom", tmp_path, sha256="abc", limits=Limits())
    for source in ("phantom", str(tmp_path), "s3://bucket/prefix/"):
        with pytest.raises(SourceError, match="sha256 checks one zip"):
            fetch_scans(source, tmp_path, sha256="0" * 64, limits=Limits())


@pytest.mark.parametrize("name", ["max_files", "max_total_bytes", "max_file_bytes"])
def test_limits_of_nothing(name: str) -> None:
    with pytest.raises(SourceError, match=f"Expected {name} of at least 1. Received: 0"):
        Limits(**{name: 0})
