"""What a decode may cost is known and bounded before a decoder runs."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from PIL import Image
from pydicom import uid

from benchmarks import hostile_kinds
from benchmarks.hostile import inputs
from benchmarks.hostile_inputs import damaged, dicom, intact
from model.decoding import jpeg, jpeg_2000, limits
from model.decoding.errors import ScanError
from model.decoding.limits import BUDGET, Budget, TimedStream
from model.decoding.scan_file import decode, decode_grey
from tests.model.test_images import GREY, encode, refusal

ROOT = Path(__file__).resolve().parents[2]


def test_what_does_not_fit_waits_in_order() -> None:
    budget, order = Budget(100), []
    holding, release = threading.Event(), threading.Event()

    def first() -> None:
        with budget.reserve(60):
            holding.set()
            release.wait(10)
            order.append("first")

    def later(name: str, needed: int) -> None:
        with budget.reserve(needed):
            order.append(name)

    threads = [threading.Thread(target=first)]
    threads[0].start()
    assert holding.wait(10)
    for name, needed in (("large", 90), ("small", 10)):
        threads.append(threading.Thread(target=later, args=(name, needed)))
        threads[-1].start()
        time.sleep(0.05)
    assert order == []  # the small one fits, but does not overtake, or the large one might starve
    release.set()
    for thread in threads:
        thread.join(10)
    assert order == ["first", "large", "small"]
    with budget.reserve(100):
        pass


def test_what_can_never_fit_is_refused_and_errors_give_back() -> None:
    budget = Budget(100)
    with pytest.raises(ScanError, match="within 0 MB"), budget.reserve(101):
        pytest.fail("reserved")
    with pytest.raises(ZeroDivisionError), budget.reserve(100):
        raise ZeroDivisionError
    with budget.reserve(100):
        pass


def test_large_slices_decode_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    held, most = [0], [0]
    lock = threading.Lock()
    reserve = Budget.reserve

    def counted(budget: Budget, needed: int) -> object:
        manager = reserve(budget, needed)

        class Counted:
            def __enter__(self) -> None:
                manager.__enter__()
                with lock:
                    held[0] += needed
                    most[0] = max(most[0], held[0])

            def __exit__(self, *error: object) -> None:
                with lock:
                    held[0] -= needed
                manager.__exit__(*error)  # type: ignore[arg-type]

        return Counted()

    monkeypatch.setattr(Budget, "reserve", counted)
    data = hostile_kinds.deflated_tiff(32, _339=3)
    threads = [threading.Thread(target=decode_grey, args=(data,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert 0 < most[0] <= BUDGET.total_bytes
    assert held[0] == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_waits_for_no_thread_of_its_parent() -> None:
    code = (
        "import os, threading\n"
        "from model.decoding.limits import BUDGET\n"
        "inside, done = threading.Event(), threading.Event()\n"
        "def hold():\n"
        "    with BUDGET.reserve(BUDGET.total_bytes): inside.set(); done.wait()\n"
        "threading.Thread(target=hold).start(); inside.wait()\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    with BUDGET.reserve(BUDGET.total_bytes): os._exit(0)\n"
        "print(os.waitpid(child, 0)[1]); done.set()\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "0"


def test_a_stream_is_given_up_when_its_time_is_used() -> None:
    stream = TimedStream(b"abc", max_cpu_s=0.02)
    assert stream.read(1) == b"a"
    until = time.thread_time() + 0.03
    while time.thread_time() < until:
        pass
    with pytest.raises(ScanError, match="takes longer"):
        stream.read(limits.LARGE_READ)
    with pytest.raises(ScanError, match="takes longer"):
        for _ in range(limits.READS_PER_LOOK):
            stream.read(1)


def test_a_picture_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits.TimedStream.__init__, "__defaults__", (0.05,))
    code = b"\x01\x07" * 1_000_000
    message = refusal(hostile_kinds.long_run_length_bmp(1000, code))
    assert "takes longer" in message


PICTURES = {
    "PNG": encode(Image.fromarray(GREY), "PNG"),
    "JPEG": encode(Image.fromarray(GREY), "JPEG"),
    "JPEG progressive": encode(Image.fromarray(GREY), "JPEG", progressive=True),
    "BMP": encode(Image.fromarray(GREY), "BMP"),
    "TIFF": encode(Image.fromarray(GREY), "TIFF", compression="tiff_lzw"),
    "WebP": encode(Image.fromarray(GREY), "WEBP"),
    **{name: data for name, data in intact().items() if "JPEG" in name or "RLE" in name},
    "DICOM Deflated": intact()["DICOM DeflatedExplicitVRLittleEndian"],
}


@pytest.mark.parametrize("name", PICTURES)
def test_every_format_reserves_before_it_decodes(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserved: list[int] = []

    def refuse(_budget: Budget, needed: int) -> object:
        reserved.append(needed)
        raise ScanError("too_costly", "Expected room, received none; wait.")

    monkeypatch.setattr(Budget, "reserve", refuse)
    with pytest.raises(ScanError, match="Expected room"):
        decode(PICTURES[name])
    pixels = 96 * 128 if not name.startswith(("DICOM", "TIFF JPEG", "JPEG CMYK")) else 64 * 64
    assert reserved[0] >= 2 * pixels


def test_the_scans_of_a_jpeg_are_counted() -> None:
    least = jpeg.read_jpeg(hostile_kinds.many_scans(64, 0))
    assert least is not None
    for repeats in (1, 7, 90):
        data = hostile_kinds.many_scans(64, repeats)
        found = jpeg.read_jpeg(data)
        assert found is not None
        assert (found.scans, found.end) == (least.scans + repeats, len(data))
        assert found.is_progressive
    assert f"of {least.scans + 1000} scans" in refusal(hostile_kinds.many_scans(64, 1000))


def test_a_large_jpeg_may_have_fewer_scans(monkeypatch: pytest.MonkeyPatch) -> None:
    data = hostile_kinds.many_scans(64, 20)
    decode_grey(data)
    monkeypatch.setattr(jpeg, "MAX_SCAN_SAMPLES", 64 * 64 * 10)
    assert "a large one of fewer" in refusal(data)


def test_a_jpeg_of_many_segments_is_refused_at_once() -> None:
    data = hostile_kinds.many_segments(32)
    start = time.process_time()
    assert "segments" in refusal(data)
    assert time.process_time() - start < 1


@pytest.mark.parametrize(
    ("tiles_left", "received"), [(16, None), (15, "missing"), (1, "missing"), (0, "cut short")]
)
def test_a_jpeg_2000_must_have_all_of_its_tiles(tiles_left: int, received: str | None) -> None:
    frame = hostile_kinds.tiled_j2k(256, 64, tiles_left)
    data = dicom(frame, uid.JPEG2000Lossless, Rows=256, Columns=256)
    if received:
        assert received in refusal(data)
    else:
        grey = decode_grey(data)
        assert np.array_equal(grey[:64, :64], grey[64:128, 192:])
        assert grey.std() > 10


def test_a_tile_part_that_is_missing_is_noticed() -> None:
    frame = bytearray(hostile_kinds.j2k())
    at = frame.index(b"\xff\x90")
    frame[at + 11] = 2  # TNsot: the tile has two parts; there is one
    assert "missing" in refusal(dicom(bytes(frame), uid.JPEG2000Lossless))


@pytest.mark.parametrize("levels", [0, 1, 5])
@pytest.mark.parametrize("side_px", [64, 97, 512])
def test_whole_codestreams_are_taken_and_described(levels: int, side_px: int) -> None:
    pixels = np.random.default_rng(side_px).integers(0, 4096, (side_px, side_px), dtype=np.uint16)
    for codestream in (
        imagecodecs.jpeg2k_encode(
            pixels, codecformat="j2k", reversible=True, resolutions=levels + 1, bitspersample=12
        ),
        imagecodecs.jpeg2k_encode(pixels, codecformat="j2k", level=60, resolutions=levels + 1),
        imagecodecs.htj2k_encode(pixels, reversible=True),
        imagecodecs.jpeg2k_encode(np.zeros_like(pixels), codecformat="j2k", reversible=True),
    ):
        found = jpeg_2000.read_jpeg_2000(bytes(codestream))
        assert (found.rows, found.columns) == (side_px, side_px)
        assert found.precision_bits in (12, 16)
        assert not found.is_signed
        assert found.decoding_bytes > 16 * side_px**2


def test_costs_of_tiffs_are_those_of_their_tiles() -> None:
    assert "MB" in refusal(hostile_kinds.tile_bomb())
    assert decode_grey(hostile_kinds.tile_bomb(256)).shape == (64, 64)  # no bomb
    assert "overlap" in refusal(hostile_kinds.overlapping_strips(200, 1))


def test_a_header_of_endless_parts_is_given_up() -> None:
    start = time.process_time()
    assert "parts before its pixels" in refusal(hostile_kinds.nested_dicom(1, 400_000))
    assert time.process_time() - start < 3
    ordinary = hostile_kinds.nested_dicom(3, 20)
    assert decode_grey(ordinary).shape == (64, 64)


def test_a_slice_of_a_4_mb_header_is_read() -> None:
    private = b"\x09\0\x10\x10OB\0\0" + struct.pack("<I", 2**22) + bytes(2**22)
    data = intact()["DICOM ExplicitVRLittleEndian"]
    at = data.index(b"\x10\0\x10\0PN")
    assert np.array_equal(decode_grey(data[:at] + private + data[at:]), decode_grey(data))


def run_hostile(*options: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.hostile", "--workers", "1", *options],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="limits of a process are read as Linux has it")
def test_damaged_files_end_as_grey_levels_or_a_sentence() -> None:
    assert "600 inputs, 0 faults" in run_hostile("--count", "600", "--no-kinds")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits of a process are read as Linux has it")
def test_files_made_to_do_harm_do_none() -> None:
    total = 2000 + len(hostile_kinds.KINDS)
    assert f"{total} inputs, 0 faults" in run_hostile("--count", "2000")


def test_damage_is_the_same_each_time() -> None:
    assert [damaged(i, 3) for i in range(50)] == [damaged(i, 3) for i in range(50)]
    assert len({damaged(i, 3)[1] for i in range(200)}) > 190
    assert damaged(0, 3) != damaged(0, 4)
    assert len(list(inputs(10, 0))) == 10 + len(hostile_kinds.KINDS)
