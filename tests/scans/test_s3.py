"""Sources on S3, against a real server that enforces credentials."""

from __future__ import annotations

import hashlib
import uuid
import zipfile
from pathlib import Path

import pytest

from scans.errors import SourceError
from scans.fetch import fetch_scans
from scans.limits import Limits
from scans.s3 import download_s3
from tests.s3_server import READ_ONLY, S3Server, free_port
from tests.scans.conftest import class_folders


@pytest.fixture
def bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty bucket, and an environment that may read it."""
    for name, value in s3_server.env(READ_ONLY).items():
        monkeypatch.setenv(name, value)
    name = f"scans-{uuid.uuid4().hex[:12]}"
    s3_server.client().create_bucket(Bucket=name)
    return name


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.png")}


def test_a_zip(s3_server: S3Server, bucket: str, tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "given", {"a": 2, "b ü": 1})
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        for name, data in tree(folder).items():
            archive.writestr(name, data)
    data = (tmp_path / "z.zip").read_bytes()
    s3_server.client().put_object(Bucket=bucket, Key="sets/CT scans (1).zip", Body=data)
    fetched = fetch_scans(
        f"s3://{bucket}/sets/CT scans (1).zip", tmp_path / "work", limits=Limits(),
        sha256=hashlib.sha256(data).hexdigest().upper(),
    )  # fmt: skip
    assert tree(fetched.folder) == tree(folder)
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["files"]
    with pytest.raises(SourceError, match=r"not the file that sha256 names. Expected: 0000"):
        fetch_scans(
            f"s3://{bucket}/sets/CT scans (1).zip", tmp_path / "w", limits=Limits(),
            sha256="0" * 64,
        )  # fmt: skip


def test_a_prefix_of_more_than_one_page(s3_server: S3Server, bucket: str, tmp_path: Path) -> None:
    client = s3_server.client()
    expected = {}
    for number in range(24):
        name = f"train/{'ab'[number % 2]}/größe {number}#1?.png"
        expected[name] = f"scan {number}".encode()
        client.put_object(Bucket=bucket, Key=f"chest/{name}", Body=expected[name])
    client.put_object(Bucket=bucket, Key="chest/train/", Body=b"")
    client.put_object(Bucket=bucket, Key="chest-other/a/no.png", Body=b"no")
    download_s3(f"s3://{bucket}/chest/", tmp_path / "out", Limits())
    assert tree(tmp_path / "out") == expected
    with pytest.raises(SourceError, match="max_files=10"):
        download_s3(f"s3://{bucket}/chest/", tmp_path / "too-many", Limits(max_files=10))
    with pytest.raises(SourceError, match="max_total_bytes=20"):
        download_s3(f"s3://{bucket}/chest/", tmp_path / "too-much", Limits(max_total_bytes=20))


def refused(source: str, tmp_path: Path) -> str:
    with pytest.raises(SourceError) as caught:
        fetch_scans(source, tmp_path / "work", limits=Limits())
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "work/source.zip").exists()
    return str(caught.value)


def test_what_is_missing_is_named(s3_server: S3Server, bucket: str, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    assert f"s3://{bucket}/no.zip does not exist" in refused(f"s3://{bucket}/no.zip", tmp_path)
    assert f"Expected scans under s3://{bucket}/no/" in refused(f"s3://{bucket}/no/", tmp_path)
    assert "does not exist" in refused("s3://no-such-bucket-here/no.zip", tmp_path)


def test_wrong_and_missing_credentials(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
    message = refused(f"s3://{bucket}/a.zip", tmp_path)
    assert "may not be read with these credentials" in message
    assert "wrong-secret" not in message
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    assert "needs credentials" in refused(f"s3://{bucket}/a.zip", tmp_path)


def test_no_server(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setattr("scans.download.FIRST_WAIT_S", 0.0)
    monkeypatch.setattr("scans.s3.REQUEST_ATTEMPTS", 1)
    assert "no connection to the server" in refused(f"s3://{bucket}/a.zip", tmp_path)
    assert "no connection to the server" in refused(f"s3://{bucket}/a/", tmp_path)
