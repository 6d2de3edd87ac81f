from __future__ import annotations

import random
import re
import shutil
import stat
import struct
import time
import zipfile
from pathlib import Path

import pytest

from scans.archive import extract_zip
from scans.errors import SourceError
from scans.limits import Limits
from tests.scans.conftest import picture


def make_zip(path: Path, files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def refused(archive: Path, target: Path, limits: Limits | None = None) -> str:
    with pytest.raises(SourceError) as caught:
        extract_zip(archive, target, limits or Limits(), "given.zip")
    message = str(caught.value)
    assert message.count("\n") == 0
    return message


def test_files_come_out_as_they_went_in(tmp_path: Path) -> None:
    files = {"a b/größe 1.png": b"1" * 5000, "é/ü/3.txt": b"", "top": b"x"}
    make_zip(tmp_path / "z.zip", files)
    with zipfile.ZipFile(tmp_path / "z.zip", "a") as archive:
        archive.mkdir("empty class")
    out = tmp_path / "out"
    extract_zip(tmp_path / "z.zip", out, Limits(), "z")
    assert {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()}\
        == files  # fmt: skip
    assert (out / "empty class").is_dir()


def test_utf8_names_without_the_flag_are_read_as_utf8(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "z.zip", {"klasse-grosse/1.png": b"1"})
    data = archive.read_bytes().replace(b"grosse", "größ".encode())  # the same six bytes
    archive.write_bytes(data)
    extract_zip(archive, tmp_path / "out", Limits(), "z")
    assert (tmp_path / "out/klasse-größ/1.png").read_bytes() == b"1"


@pytest.mark.parametrize(
    "name", ["../evil.png", "a/../../evil.png", "/evil.png", "C:/evil.png", "..\\evil.png"]
)
def test_no_path_leads_out(tmp_path: Path, name: str) -> None:
    archive = make_zip(tmp_path / "z.zip", {"a/1.png": b"1", name: b"evil"})
    assert "leads out of the folder" in refused(archive, tmp_path / "in/out")
    assert list(tmp_path.iterdir()) == [archive]


def test_links_are_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("a/link.png")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    assert "'a/link.png', which is a link" in refused(tmp_path / "z.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_encrypted_is_said_to_be_so(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "z.zip", {"a/1.png": b"1"})
    data = bytearray(archive.read_bytes())
    data[6] |= 1  # the flag in the local header, and in the directory
    data[data.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(data)
    assert "is encrypted ('a/1.png')" in refused(archive, tmp_path / "out")


@pytest.mark.parametrize(
    ("limits", "named"),
    [
        (Limits(max_files=2), "max_files=2"),
        (Limits(max_file_bytes=999), "max_file_bytes=999"),
        (Limits(max_total_bytes=2999), "max_total_bytes=2,999"),
    ],
)
def test_limits(tmp_path: Path, limits: Limits, named: str) -> None:
    archive = make_zip(tmp_path / "z.zip", {f"a/{i}.png": bytes(1000) for i in range(3)})
    assert named in refused(archive, tmp_path / "out", limits)
    assert not (tmp_path / "out").exists()  # seen before anything was written
    exactly = Limits(max_files=3, max_file_bytes=1000, max_total_bytes=3000)
    extract_zip(archive, tmp_path / "out", exactly, "z")


def test_a_bomb_whose_directory_lies_is_stopped(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "z.zip", {"a/bomb.png": bytes(20_000_000)})
    data = bytearray(archive.read_bytes())
    assert len(data) < 50_000
    for header, size_at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", data, data.index(header) + size_at, 1000)
    archive.write_bytes(data)
    assert "'a/bomb.png'" in refused(archive, tmp_path / "out", Limits(max_file_bytes=10_000))
    written = sum(p.stat().st_size for p in (tmp_path / "out").rglob("*") if p.is_file())
    assert written <= 10_000


def test_a_damaged_entry_is_named(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "z.zip", {"a/1.png": b"0123456789"}, zipfile.ZIP_STORED)
    archive.write_bytes(archive.read_bytes().replace(b"0123456789", b"0123456780"))
    assert "is damaged: 'a/1.png' cannot be unpacked" in refused(archive, tmp_path / "out")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b"<!DOCTYPE html><title>Sign in</title>", "it is a web page"),
        (b"\x1f\x8b\x08 a tar.gz", "it is a gzip file"),
        (b"\x89PNG\r\n\x1a\n", "it is a PNG image"),
        (b"something else", "its first bytes are not a zip's"),
    ],
)
def test_what_is_no_zip_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "z.zip").write_bytes(content)
    message = refused(tmp_path / "z.zip", tmp_path / "out")
    assert said in message
    assert "given.zip is no whole zip file" in message


def test_a_zip_cut_short_is_no_whole_zip(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "z.zip", {"a/1.png": bytes(range(256)) * 50})
    archive.write_bytes(archive.read_bytes()[:-30])
    assert "cut short or damaged" in refused(archive, tmp_path / "out")


def test_a_name_given_twice_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("a/1.png", b"1")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a/1.png", b"2")
    assert "'a/1.png' twice" in refused(tmp_path / "z.zip", tmp_path / "out")


def test_a_file_that_is_also_a_folder_is_refused(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "z.zip", {"a": b"1", "a/1.png": b"2"})
    assert "both as a file and as a folder" in refused(archive, tmp_path / "out")


def test_a_hundred_thousand_names_take_seconds(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "z.zip", "w", zipfile.ZIP_STORED) as archive:
        for number in range(100_000):
            archive.writestr(zipfile.ZipInfo(f"a/{number}.png"), b"")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr(zipfile.ZipInfo("a/99999.png"), b"")
    started = time.process_time()
    assert "'a/99999.png' twice" in refused(
        tmp_path / "z.zip", tmp_path / "out", Limits(max_files=200_000)
    )
    assert time.process_time() - started < 20  # 25 minutes where each name is counted anew


def test_names_that_no_file_system_takes_get_names_of_our_own(tmp_path: Path) -> None:
    files = {
        f"ill/{'n' * 300}.png": b"1", f"ill/{'n' * 301}.png": b"2", f"{'d' * 300}/x.png": b"3",
        "ill/" + "b/" * 2000 + "x.png": b"4", "C: ct/5.png": b"5", "ill/a:b.png": b"6",
        "ill//7.png": b"7", "./ill/8.png": b"8", "ill/9.png": b"9",
    }  # fmt: skip
    archive = make_zip(tmp_path / "z.zip", files)
    extract_zip(archive, tmp_path / "out", Limits(), "z")
    found = {p.relative_to(tmp_path / "out"): p.read_bytes() for p in tmp_path.rglob("*/*")
             if p.is_file()}  # fmt: skip
    assert sorted(found.values()) == sorted(files.values())
    assert found[Path("ill/9.png")] == b"9"
    assert found[Path("C: ct/5.png")] == b"5"
    assert sum(path.parts[0] == "ill" for path in found) == 7


def test_an_entry_that_cannot_be_unpacked_is_one_sentence(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "z.zip", {f"a/{i}.png": bytes(range(200)) for i in range(3)})
    whole = archive.read_bytes()
    central = whole.index(b"PK\x01\x02")
    for offset, value, said in (
        (central + 42, 0xFFFFFFF0, "damaged"),  # where the entry begins
        (central + 6, 0xFFFF, "in a way that cannot be read here|no whole zip"),  # version needed
        (central + 10, 97, "in a way that cannot be read here"),  # method
    ):
        data = bytearray(whole)
        struct.pack_into("<I" if value > 0xFFFF else "<H", data, offset, value)
        archive.write_bytes(data)
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        assert re.search(said, refused(archive, tmp_path / "out"))


def test_flipped_bytes_never_give_another_error(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "z.zip", {f"a/{i}.png": picture(i)[:300] for i in range(4)})
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_BZIP2) as opened:
        opened.writestr("a/bz2.png", b"x" * 300)
        opened.writestr("a/lzma.png", b"y" * 300, zipfile.ZIP_LZMA)
        opened.writestr("a/stored.png", b"z" * 300, zipfile.ZIP_STORED)
    whole = archive.read_bytes()
    rng = random.Random(0)
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.choice((0, 255, rng.randrange(256)))
        archive.write_bytes(data[: rng.choice((len(data), rng.randrange(len(data))))])
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        try:
            extract_zip(archive, tmp_path / "out", Limits(), "given.zip")
        except SourceError as e:
            assert "\n" not in str(e)
            assert len(str(e)) < 600
