"""Zips in an upload: every slice is scored, everything else is named, and no zip is a danger."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest
import requests

from serve import inflate
from serve.http.errors import RefusalError
from serve.zips import Allowance, DamagedZipError, Members, open_zip
from tests.serve.conftest import png
from tests.serve.server_process import ServerProcess
from tests.serve.test_hostile_requests import peak_kib
from tests.serve.trial_model import dicom

MEBIBYTE = 2**20
UID = "1.2.840.7"


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED, **entry: Any) -> bytes:
    """Return a zip of files; `entry` sets attributes of the first member's entry."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as made:
        for name, content in files.items():
            made.writestr(name, content)
        for attribute, value in entry.items():
            setattr(made.infolist()[0], attribute, value)
    return file.getvalue()


def post(server: ServerProcess, *files: tuple[str, bytes], query: str = "") -> requests.Response:
    parts = [("files", file) for file in files]
    return requests.post(f"{server.url}/predict{query}", files=parts, timeout=60)


def opened(data: bytes, files: int = 50, total: int = 10**8, each: int = 32 * MEBIBYTE) -> Members:
    members = open_zip(io.BytesIO(data), "z.zip", Allowance(files, total, each))
    assert members is not None
    return members


def test_a_zip_gives_a_row_per_slice_and_names_what_it_leaves_out(
    trial_server: ServerProcess,
) -> None:
    series = {f"CT/IM{i}": dicom(UID, 5.0 * i, png(10 * i)) for i in range(4)}
    others = {
        "__MACOSX/CT/._IM0": b"x",
        "DICOMDIR": b"index",
        "CT/inner.zip": zipped({"a.png": png(9)}),
        "README.txt": b"a viewer for Windows",
        ".hidden": b"x",
        "empty": b"",
    }
    answer = post(trial_server, ("study.zip", zipped(series | others)), ("one.png", png(30)))
    assert answer.status_code == 200
    body = answer.json()
    names = [*(f"study.zip/{name}" for name in series), "one.png"]
    assert [row["file"] for row in body["predictions"]] == names
    assert all(row["label"] for row in body["predictions"])
    left_out = {entry["file"]: entry["reason"] for entry in body["left_out"]}
    assert set(left_out) == {f"study.zip/{name}" for name in others}
    assert left_out["study.zip/CT/inner.zip"].startswith("a zip within a zip")
    (entry,) = body["series"]
    assert (entry["series"], entry["slices"], entry["scored"]) == (UID, 4, 4)


def test_names_that_occur_twice_and_names_in_other_alphabets(trial_server: ServerProcess) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as made:
            for brightness in (10, 250):
                made.writestr("a.png", png(brightness))
            made.writestr("胸部/Ä.png", png(30))
            made.writestr("folder\\b.png", png(30))
    rows = post(trial_server, ("z.zip", file.getvalue())).json()["predictions"]
    expected = ["z.zip/a.png", "z.zip/a.png", "z.zip/胸部/Ä.png", "z.zip/folder/b.png"]
    assert [row["file"] for row in rows] == expected
    assert rows[0]["p_normal"] != rows[1]["p_normal"]


@pytest.mark.parametrize(
    ("name", "entry", "reason"),
    [
        ("../a.png", {}, "a path that leads out"),
        ("/etc/a.png", {}, "a path that leads out"),
        ("C:/a.png", {}, "a path that leads out"),
        ("link", {"external_attr": 0o120777 << 16}, "a link"),
        ("a.png", {"flag_bits": 1}, "encrypted"),
        ("large", {"file_size": 33 * MEBIBYTE}, "larger than 32 MiB"),
    ],
)
def test_members_that_are_not_read(name: str, entry: dict[str, Any], reason: str) -> None:
    members = opened(zipped({name: png(9), "b.png": png(9)}, **entry))
    assert [scan.file for scan in members.scans] == ["z.zip/b.png"]
    ((file, why),) = members.left_out
    assert file == f"z.zip/{name}"
    assert why.startswith(reason)


def test_packings_that_may_want_gigabytes_are_not_unpacked() -> None:
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        ((_, reason),) = opened(zipped({"a.png": png(9)}, method)).left_out
        assert "deflate" in reason


def test_damaged_zips_and_members(trial_server: ServerProcess) -> None:
    good = zipped({"a.png": png(9), "b.png": png(50)}, zipfile.ZIP_STORED)
    for cut in (good[: len(good) // 2], good[:-10], b"PK\x03\x04", b"PK\x05\x06" + bytes(10)):
        with pytest.raises(DamagedZipError, match=r"Expected a whole zip, received .*; send it"):
            opened(cut)
        refused = post(trial_server, ("cut.zip", cut))
        assert refused.status_code == 400
        assert refused.json()["message"].startswith("Expected a whole zip, received one that")
        beside = post(trial_server, ("cut.zip", cut), ("c.png", png(9)))
        assert [row["file"] for row in beside.json()["predictions"]] == ["c.png"]
        assert [entry["file"] for entry in beside.json()["left_out"]] == ["cut.zip"]
    damaged = bytearray(good)
    damaged[60] ^= 0xFF  # in the pixels of the first member
    answer = post(trial_server, ("z.zip", bytes(damaged))).json()
    assert [row["file"] for row in answer["predictions"]] == ["z.zip/b.png"]
    assert answer["left_out"][0]["file"] == "z.zip/a.png"
    assert "damaged" in answer["left_out"][0]["reason"]


def test_a_zip_without_a_scan_is_refused_in_one_sentence(trial_server: ServerProcess) -> None:
    for files in ({}, {"a.txt": b"x"}, {"a.txt": b"x", "inner.zip": zipped({"b": b"x"})}):
        answer = post(trial_server, ("z.zip", zipped(files)))
        assert answer.status_code == 400
        assert answer.json()["message"].startswith("Expected ")
        assert answer.json()["message"].count(".") == 1


def test_an_office_document_is_a_file_and_not_a_zip_of_scans(trial_server: ServerProcess) -> None:
    document = zipped({"[Content_Types].xml": b"<Types/>", "word/media/a.png": png(9)})
    (row,) = post(trial_server, ("letter.docx", document)).json()["predictions"]
    assert row["error_code"] == "unknown_format"


def test_a_dicom_file_whose_preamble_looks_like_a_zip_is_no_zip(
    trial_server: ServerProcess,
) -> None:
    scan = b"PK\x03\x04" + dicom(UID, 1.0, png(9))[4:]
    (row,) = post(trial_server, ("a.dcm", scan)).json()["predictions"]
    assert row["label"]


def lying_bomb(unpacked: int) -> bytes:
    """Return a zip whose member says it has 1,000 bytes and unpacks to far more."""
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    packed = b"".join(packer.compress(bytes(MEBIBYTE)) for _ in range(unpacked // MEBIBYTE))
    packed += packer.flush()
    name, crc = b"a.dcm", zlib.crc32(bytes(1000))
    sizes = struct.pack("<LLL", crc, len(packed), 1000)
    local = b"PK\x03\x04" + struct.pack("<HHHHH", 20, 0, 8, 0, 33) + sizes
    local += struct.pack("<HH", len(name), 0) + name + packed
    central = b"PK\x01\x02" + struct.pack("<HHHHHH", 20, 20, 0, 8, 0, 33) + sizes
    central += struct.pack("<HHHHHLL", len(name), 0, 0, 0, 0, 0, 0) + name
    end = b"PK\x05\x06" + struct.pack("<HHHHLLH", 0, 0, 1, 1, len(central), len(local), 0)
    return local + central + end


def test_a_bomb_that_lies_about_its_size_is_never_unpacked() -> None:
    bomb = lying_bomb(400 * MEBIBYTE)
    (member,) = opened(bomb).scans
    tracemalloc.start()
    assert len(member.read(-1)) == 1000
    assert len(member.read(132)) == 132
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 * MEBIBYTE


def test_bombs_are_refused_from_their_directory(trial_server: ServerProcess) -> None:
    post(trial_server, ("a.png", png(9)))
    before = peak_kib(trial_server)
    zeros = bytes(30 * MEBIBYTE)
    flat = zipped({f"{i}.dcm": zeros for i in range(11)})
    crowd = zipped({f"{i}": b"" for i in range(1001)})
    for bomb, told in ((flat, "unpack to at most 320 MiB"), (crowd, "at most 1000 files in zips")):
        assert len(bomb) < MEBIBYTE
        answer = post(trial_server, ("bomb.zip", bomb))
        assert answer.status_code == 413
        assert told in answer.json()["message"]
    twice = zipped({f"{i}.dcm": zeros for i in range(6)})
    answer = post(trial_server, ("a.zip", twice), ("b.zip", twice))
    assert "unpack to at most 320 MiB" in answer.json()["message"]
    assert peak_kib(trial_server) - before < 60 * 1024


def test_a_directory_of_far_too_many_entries_is_not_even_read() -> None:
    crowd = zipped({f"{i}": b"" for i in range(30_000)})
    tracemalloc.start()
    with pytest.raises(RefusalError, match="far more"):
        opened(crowd)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < MEBIBYTE


def test_a_zip_with_64_bit_records_is_read_like_any_other() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made, made.open("a.png", "w", force_zip64=True) as member:
        member.write(png(9))
    data = file.getvalue()
    at = data.rfind(b"PK\x05\x06")
    start, (length, offset) = at, struct.unpack_from("<LL", data, at + 12)
    record = b"PK\x06\x06" + struct.pack("<QHHLLQQQQ", 44, 45, 45, 0, 0, 1, 1, length, offset)
    locator = b"PK\x06\x07" + struct.pack("<LQL", 0, start, 1)
    end = b"PK\x05\x06" + struct.pack("<HHHHLLH", 0, 0, 2**16 - 1, 2**16 - 1, *[2**32 - 1] * 2, 0)
    (scan,) = opened(data[:at] + record + locator + end).scans
    assert scan.read(-1) == png(9)
    lying = struct.pack("<Q", 2**40).join([record[:40], record[48:]])
    with pytest.raises(RefusalError, match="far more"):
        opened(data[:at] + lying + locator + end)


def test_nothing_is_written_to_disk(
    trial_server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proc = Path(f"/proc/{trial_server.process.pid}")
    scans = {f"{i}.dcm": dicom(UID, 5.0 * i, png(9), size=400_000) for i in range(20)}
    before = written_bytes(proc)
    body = post(trial_server, ("z.zip", zipped(scans, zipfile.ZIP_STORED))).json()
    assert len(body["predictions"]) == 20
    assert written_bytes(proc) - before < 100_000


def written_bytes(proc: Path) -> int:
    line = next(x for x in (proc / "io").read_text().splitlines() if x.startswith("write_bytes"))
    return int(line.split()[1])


def test_libdeflate_and_zipfile_unpack_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"a": png(9), "empty": b"", "large": bytes(range(256)) * 4000, "Ä/b": b"x"}
    packed = zipped(files, zipfile.ZIP_DEFLATED)
    calls = []

    def counted(packed: bytes, size: int) -> bytes:
        calls.append(size)
        return fast(packed, size)

    fast = inflate.libdeflate()
    assert fast is not None, "imagecodecs is a requirement of the product's model"
    for found in (lambda: counted, lambda: None):
        monkeypatch.setattr(inflate, "libdeflate", found)
        assert [scan.read(-1) for scan in opened(packed).scans] == list(files.values())
        assert opened(packed).scans[2].read(100) == files["large"][:100]
    assert calls == [len(data) for data in files.values() if data]


def test_a_damaged_member_is_damaged_however_it_is_unpacked() -> None:
    whole = zipped({"a": bytes(range(256)) * 40, "b": b"kept"}, zipfile.ZIP_DEFLATED)
    at = whole.index(b"a", 30) + 1
    for place in (at + 1, at + 100):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        first, second = opened(bytes(damaged)).scans
        with pytest.raises(DamagedZipError, match="damaged in the zip"):
            first.read(-1)
        assert second.read(-1) == b"kept"
