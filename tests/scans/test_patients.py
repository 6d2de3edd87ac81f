"""Patients: keyed hashes, groups, series."""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from scans.dataset import build_dataset
from scans.errors import SourceError
from scans.fetch import SourceFiles
from scans.limits import Limits
from scans.patients import SALT_FILE, SALT_VARIABLE, PatientHasher, patient_hasher
from scans.prepared import Dataset, write_dataset
from scans.splits import Fractions
from scans.summary import report, summarise
from tests.scans.conftest import picture
from tests.scans.dicom import dicom_slice

SALT = "a salt for tests, long enough"


@pytest.fixture(autouse=True)
def salt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SALT_VARIABLE, SALT)


def build(folder: Path, **settings: Any) -> Dataset:
    defaults: dict[str, Any] = {
        "patterns": [], "fractions": Fractions(0.5, 0.25, 0.25), "seed": 0,
        "group_distance_bits": 0, "resplit": False, "limits": Limits(),
    }  # fmt: skip
    return build_dataset([SourceFiles(folder)], **defaults | settings)


def tree(folder: Path, patients: int = 8, slices: int = 4) -> Path:
    """Write `<class>/<patient>/<slice without extension>`, one series a patient."""
    for patient in range(patients):
        here = folder / ("ill" if patient % 2 else "well") / f"patient {patient}"
        here.mkdir(parents=True)
        for number in range(slices):
            (here / f"IM{number}").write_bytes(
                dicom_slice(
                    100 * patient + number,
                    PatientID=f"P{patient}",
                    StudyInstanceUID=f"1.2.4.{patient}",
                    SeriesInstanceUID=f"1.2.5.{patient}",
                    ImagePositionPatient=[-150, -170, 50 - 2.5 * number],
                )
            )
    return folder


def test_the_hash_is_hmac_sha256_of_issuer_and_id(tmp_path: Path) -> None:
    hashed = patient_hasher(tmp_path)("P1", "HOSPITAL")
    assert hashed == hmac.digest(SALT.encode(), b"HOSPITAL\0P1", hashlib.sha256).hex()
    assert patient_hasher(tmp_path)("P1") not in (hashed, None)
    assert patient_hasher(tmp_path)("") is None
    assert not (tmp_path / SALT_FILE).exists()


def test_a_salt_file_is_made_at_first_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SALT_VARIABLE)
    hasher = patient_hasher(tmp_path)
    assert not (tmp_path / SALT_FILE).exists()
    first = hasher("P1")
    assert stat.S_IMODE((tmp_path / SALT_FILE).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [str(SALT_FILE)]
    key = (tmp_path / SALT_FILE).read_bytes()
    assert len(key) == 32
    assert first == hmac.digest(key, b"\0P1", hashlib.sha256).hex()
    (tmp_path / "other").mkdir()
    assert patient_hasher(tmp_path / "other")("P1") != first


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        (b"", 0o600, "Expected at least 32 bytes in the patients' salt .* Received: 0"),
        (b"short", 0o600, "Expected at least 32 bytes .* Received: 5"),
        (b"x" * 32, 0o644, "may be read by others .*chmod 600"),
    ],
)
def test_salt_files_that_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, mode: int, said: str
) -> None:
    monkeypatch.delenv(SALT_VARIABLE)
    (tmp_path / SALT_FILE).write_bytes(content)
    (tmp_path / SALT_FILE).chmod(mode)
    with pytest.raises(SourceError, match=said) as caught:
        patient_hasher(tmp_path)("P1")
    assert "\n" not in str(caught.value)


def test_a_salt_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SALT_VARIABLE)
    (tmp_path / SALT_FILE).mkdir()
    with pytest.raises(SourceError, match="cannot be read or made: Is a directory"):
        patient_hasher(tmp_path)("P1")
    with pytest.raises(SourceError, match="cannot be read or made: No such file"):
        PatientHasher(tmp_path / "nowhere/salt")("P1")


@pytest.mark.parametrize("value", ["", "too short"])
def test_a_short_salt_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(SALT_VARIABLE, value)
    with pytest.raises(SourceError, match=f"{SALT_VARIABLE} of at least 16 characters"):
        patient_hasher(tmp_path)("P1")


def test_a_patient_is_never_in_two_splits(tmp_path: Path) -> None:
    folder = tree(tmp_path / "in", patients=12)
    for seed in range(3):
        dataset = build(folder, seed=seed)
        groups, splits = defaultdict(set), defaultdict(set)
        for row in dataset.rows:
            assert row.patient is not None
            groups[row.patient].add(row.group)
            splits[row.patient].add(row.split)
        assert len(groups) == 12
        assert all(len(found) == 1 for found in groups.values())
        assert all(len(found) == 1 for found in splits.values())
        assert {row.split for row in dataset.rows} == {"train", "validation", "test"}
    summary = summarise(dataset, "x", ["folder"], 0)
    assert (summary["patients"], summary["distinct_with_known_patient"]) == (12, 48)
    assert "48 of 48 distinct scans have a known patient; 12 patients, 12 series" in report(summary)


def test_near_duplicates_join_their_patients_groups(tmp_path: Path) -> None:
    folder = tree(tmp_path / "in")
    twin = dicom_slice(1, PatientID="P7", StudyInstanceUID="1.2.4.7", SeriesInstanceUID="1.2.5.7")
    (folder / "ill/patient 7/twin of a slice of patient 0").write_bytes(twin)
    picture_of_6 = dicom_slice(600, PatientID=None, StudyInstanceUID=None, SeriesInstanceUID=None)
    (folder / "well/patient 6/without a patient").write_bytes(picture_of_6)
    groups = defaultdict(set)
    for row in build(folder).rows:
        groups[row.group].add(row.patient)
    sizes = sorted(len(found) for found in groups.values())
    assert sizes == [1, 1, 1, 1, 1, 2, 2]  # 0 with 7; 6 with the slice that names nobody
    assert sum(None in found for found in groups.values()) == 1


def test_a_study_without_patient_is_not_divided(tmp_path: Path) -> None:
    folder = tree(tmp_path / "in")
    for number in range(3):
        (folder / f"ill/{number}").write_bytes(
            dicom_slice(900 + number, PatientID="", SeriesInstanceUID=f"1.{number}",
                        StudyInstanceUID="1.9.9")
        )  # fmt: skip
    unknown = [row for row in build(folder).rows if row.patient is None]
    assert len(unknown) == 3
    assert len({row.group for row in unknown}) == 1


def test_slices_of_several_classes_of_one_patient_are_no_fault(tmp_path: Path) -> None:
    folder = tree(tmp_path / "in")
    (folder / "ill/patient 0").mkdir()
    (folder / "well/patient 0/IM0").rename(folder / "ill/patient 0/IM0")
    said = report(summarise(build(folder), "x", ["folder"], 0))
    assert "1 patients have slices of different classes" in said
    assert "groups hold scans of different classes" not in said
    twin = dicom_slice(101, PatientID="P2", StudyInstanceUID="1.2.4.2", SeriesInstanceUID="1.2.5.2")
    (folder / "well/patient 2/twin of a slice of patient 1").write_bytes(twin)
    assert "1 groups hold scans of different classes; look at them" in report(
        summarise(build(folder), "x", ["folder"], 0)
    )


def test_a_series_of_two_patients_is_kept_together_and_said(tmp_path: Path) -> None:
    folder = tree(tmp_path / "in")
    (folder / "ill/patient 1/stray").write_bytes(
        dicom_slice(900, PatientID="P3", StudyInstanceUID="1.2.4.1", SeriesInstanceUID="1.2.5.1")
    )
    dataset = build(folder)
    groups = {row.group for row in dataset.rows if row.series in ("1.2.5.1", "1.2.5.3")}
    assert len(groups) == 1
    (warning,) = dataset.warnings
    assert warning.startswith("1 series belong to several patients each.")


def test_a_folder_for_each_patient_is_not_taken_for_classes(tmp_path: Path) -> None:
    for patient in range(4):
        (tmp_path / f"in/patient {patient}").mkdir(parents=True)
        for number in range(3):
            (tmp_path / f"in/patient {patient}/{number}").write_bytes(
                dicom_slice(10 * patient + number, PatientID=f"P{patient}",
                            StudyInstanceUID=f"1.{patient}", SeriesInstanceUID=f"2.{patient}")
            )  # fmt: skip
    with pytest.raises(SourceError, match=r"4 class folders holds one patient.*labels=labels\.csv"):
        build(tmp_path / "in")


def test_one_id_of_two_issuers_is_two_patients(tmp_path: Path) -> None:
    folder = tree(tmp_path / "in")
    for number, issuer in enumerate(("A", "B")):
        (folder / f"ill/{issuer}").write_bytes(
            dicom_slice(900 + number, PatientID="P99", IssuerOfPatientID=issuer,
                        StudyInstanceUID=f"1.9.{number}", SeriesInstanceUID=f"1.8.{number}")
        )  # fmt: skip
    rows = {Path(row.path).name: row for row in build(folder).rows}
    assert rows["A"].patient != rows["B"].patient
    assert rows["A"].group != rows["B"].group


def test_no_identifier_is_written(tmp_path: Path) -> None:
    folder = tree(tmp_path / "in")
    (folder / "ill/secret").write_bytes(
        dicom_slice(900, PatientID="SECRET-ID", PatientName="SECRET^NAME", IssuerOfPatientID="SITE")
    )
    (folder / "ill/report").write_bytes(dicom_slice(901, PatientID="SECRET-ID", Modality="SR"))
    dataset = build(folder)
    out = tmp_path / "out"
    out.mkdir()
    write_dataset(dataset, out)
    for table in ("manifest.csv", "series.csv", "rejected.csv"):
        assert "SECRET" not in (out / table).read_text()
    assert "SECRET" not in repr(dataset)


def test_series_are_in_order_along_the_normal(tmp_path: Path) -> None:
    folder = tree(tmp_path / "in")
    dataset = build(folder)
    own = [row for row in dataset.rows if row.series == "1.2.5.3"]
    assert [row.position_mm for row in own] == [42.5, 45.0, 47.5, 50.0]
    assert [Path(row.path).name.partition("-")[0] for row in own] == ["IM3", "IM2", "IM1", "IM0"]
    (facts,) = [facts for facts in dataset.series if facts.series == "1.2.5.3"]
    assert (facts.slices, facts.spacing_mm, facts.missing, facts.duplicates) == (4, 2.5, 0, 0)
    assert (facts.kernel, facts.manufacturer, facts.thickness_mm) == ("B40f", "ACME", "1.5")


def test_faults_in_positions_are_reported(tmp_path: Path) -> None:
    folder = tree(tmp_path / "in")
    positions = {"gap": [0, 2, 4, 10], "twice": [0, 2, 2, 4], "uneven": [0, 2, 5, 7, 9]}
    seed = 1000
    for name, values in positions.items():
        for value in values:
            (folder / "ill" / f"{name}{seed}").write_bytes(
                dicom_slice(seed, PatientID=name, StudyInstanceUID=f"1.{len(name)}.{values[-1]}",
                            SeriesInstanceUID=f"9.{len(name)}", ImagePositionPatient=[0, 0, value])
            )  # fmt: skip
            seed += 1
    (folder / "ill/nowhere").write_bytes(dicom_slice(999, PatientID="n", ImagePositionPatient=None))
    dataset = build(folder)
    facts = {facts.series: facts for facts in dataset.series}
    assert (facts["9.3"].missing, facts["9.3"].duplicates, facts["9.3"].uneven) == (2, 0, False)
    assert (facts["9.5"].missing, facts["9.5"].duplicates, facts["9.5"].uneven) == (0, 1, False)
    # A gap of one and a half spacings is uneven; that a slice is missing there is not known.
    assert (facts["9.6"].missing, facts["9.6"].duplicates, facts["9.6"].uneven) == (0, 0, True)
    assert facts["1.2.5"].with_position == 0
    assert (
        "positions: 1 slices without a position, 2 slices missing in 1 series, "
        "1 slices at another's place in 1 series, 1 series with uneven positions; see series.csv"
    ) in report(summarise(dataset, "x", ["folder"], 0))


def test_pictures_have_no_identity(tmp_path: Path) -> None:
    for number in range(20):
        path = tmp_path / f"{'ab'[number % 2]}/{number}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(picture(number))
    dataset = build(tmp_path)
    assert {(r.patient, r.series, r.position_mm, r.source) for r in dataset.rows} == {
        (None, None, None, None)
    }
    assert dataset.series == []
    said = report(summarise(dataset, "x", ["folder"], 0))
    assert "0 of 20 distinct scans have a known patient; 0 patients, 0 series" in said
    assert "near-duplicate groups" in said


def test_the_salt_is_shared_by_processes_that_start_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(SALT_VARIABLE)
    hashes = []
    for _ in range(4):
        read, write = os.pipe()
        if os.fork() == 0:  # pragma: no cover - the child
            os.write(write, str(patient_hasher(tmp_path)("P1")).encode())
            os._exit(0)
        os.close(write)
        hashes.append(read)
    assert len({os.read(read, 100) for read in hashes}) == 1
    for read in hashes:
        os.close(read)
        os.wait()


def test_the_salt_is_shared_by_threads_that_start_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(SALT_VARIABLE)
    for attempt in range(20):
        here = tmp_path / str(attempt)
        here.mkdir()
        start = threading.Barrier(8)

        def hashed(folder: Path, start: threading.Barrier) -> str | None:
            start.wait()
            return patient_hasher(folder)("P1")

        with ThreadPoolExecutor(8) as pool:
            found = {task.result() for task in [pool.submit(hashed, here, start) for _ in range(8)]}
        assert len(found) == 1
        assert [path.name for path in here.iterdir()] == [str(SALT_FILE)]
