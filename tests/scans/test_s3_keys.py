"""Keys of any kind become files one by one; broken downloads are whole or not there."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from scans.dataset import build_dataset
from scans.errors import SourceError
from scans.fetch import fetch_scans
from scans.limits import Limits
from scans.s3 import download_s3
from scans.splits import Fractions
from tests.scans.conftest import picture
from tests.scans.scripted_s3 import ScriptedS3, scripted_s3


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedS3]:
    with scripted_s3() as server:
        for name, value in {
            "AWS_ENDPOINT_URL": server.url, "AWS_ACCESS_KEY_ID": "k", "AWS_DEFAULT_REGION": "x-1",
            "AWS_SECRET_ACCESS_KEY": "s",
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        yield server


def test_listed_is_taken_plus_rejected(s3: ScriptedS3, tmp_path: Path) -> None:
    names = [
        "a//x.png", "a/x.png", "a/./x.png", "a/../x.png", "a/dir/", "a/same", "a/same/x.png",
        f"a/{'n' * 300}.png", "a/ /x.png", "a/\\x.png", "a/X.PNG", "a/C:/x.png",
        *(f"a/{'/' * n}twin.png" for n in range(20)), *(f"b/{n}.png" for n in range(6)),
    ]  # fmt: skip
    for seed, name in enumerate(names):
        s3.objects[f"p/{name}"] = picture(seed)
    s3.objects |= {"p/a/": b"", "p/": b"", "p/b/notes.txt": b"hello", "p/b/.DS_Store": b"x"}
    fetched = fetch_scans("s3://b/p/", tmp_path, limits=Limits())
    files = [path for path in fetched.folder.rglob("*") if path.is_file()]
    assert len(files) == len(names) + 2
    dataset = build_dataset(
        [fetched], patterns=[], fractions=Fractions(), seed=0, group_distance_bits=0,
        resplit=False, limits=Limits(),
    )  # fmt: skip
    assert len(dataset.rows) == len(names) == 38
    assert [row.label for row in dataset.rows].count("a") == 32
    assert [str(r.path) for r in dataset.rejected] == ["b/notes.txt"]
    assert dataset.passed_over == 1
    assert dataset.files == sum(row.copies for row in dataset.rows) + len(dataset.rejected)


def test_keys_cannot_lead_out(s3: ScriptedS3, tmp_path: Path) -> None:
    for key in ("p/../../evil.png", "p//etc/passwd", "p/..", "p/a/../../../evil.png"):
        s3.objects[key] = b"evil"
    download_s3("s3://b/p/", tmp_path / "in/out", Limits())
    found = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(found) == 4
    assert all(path.is_relative_to(tmp_path / "in/out") for path in found)


def test_public_buckets_get_no_credentials(s3: ScriptedS3, tmp_path: Path) -> None:
    s3.objects = {"p/a/1.png": b"1"}
    download_s3("s3://b/p/", tmp_path / "signed", Limits())
    assert all(s3.signed)
    s3.signed.clear()
    fetched = fetch_scans("s3://b/p/", tmp_path / "work", limits=Limits(), unsigned=True)
    assert (fetched.folder / "a/1.png").read_bytes() == b"1"
    assert s3.signed and set(s3.signed) == {None}


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # boto3's, of the broken connections
def test_a_broken_download_is_resumed_or_named(s3: ScriptedS3, tmp_path: Path) -> None:
    s3.objects = {"z.zip": bytes(range(256)) * 80_000}
    s3.breaks = 3
    download_s3("s3://b/z.zip", tmp_path / "z.zip", Limits())
    assert (tmp_path / "z.zip").read_bytes() == s3.objects["z.zip"]
    s3.breaks = 100
    with pytest.raises(SourceError, match=r"s3://b/z.zip .* the connection broke too often"):
        download_s3("s3://b/z.zip", tmp_path / "again.zip", Limits())
    assert [path.name for path in tmp_path.iterdir()] == ["z.zip"]
    gc.collect()  # the warnings come here and not in a later test


def test_an_object_larger_than_allowed_is_given_up(s3: ScriptedS3, tmp_path: Path) -> None:
    s3.objects = {"z.zip": bytes(20_000_000)}
    with pytest.raises(SourceError, match="max_total_bytes=1,000,000"):
        download_s3("s3://b/z.zip", tmp_path / "z.zip", Limits(max_total_bytes=1_000_000))
    assert list(tmp_path.iterdir()) == []
