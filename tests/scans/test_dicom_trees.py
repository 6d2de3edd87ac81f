"""Trees of DICOM as archives export them: axial CT slices are taken, all else has its reason."""

from __future__ import annotations

import shutil
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    EncapsulatedPDFStorage,
    EnhancedCTImageStorage,
    KeyObjectSelectionDocumentStorage,
    MediaStorageDirectoryStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from scans import inspection
from scans.dataset import build_dataset
from scans.distinct import distinct_scans
from scans.errors import SourceError
from scans.fetch import SourceFiles, fetch_scans
from scans.limits import Limits
from scans.patients import SALT_VARIABLE, patient_hasher
from scans.prepared import Dataset
from scans.splits import Fractions
from scans.summary import report, summarise
from tests.scans.dicom import dicom_slice
from tests.scans.scripted_s3 import scripted_s3
from tests.scans.test_patients import tree

PYDICOM_FILES = Path(pydicom.__file__).parent / "data/test_files"
ODD: dict[str, tuple[dict[str, Any], str]] = {
    "localizer": ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "a localizer"),
    "coronal": (
        {"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]},
        "a slice whose normal is N degrees off the body's axis",
    ),
    "mr": ({"Modality": "MR"}, "a magnetic resonance image"),
    "dose": ({"Modality": "RTDOSE"}, "a radiotherapy dose"),
    "seg": ({"Modality": "SEG", "SOPClassUID": SegmentationStorage}, "a segmentation"),
    "frames": ({"NumberOfFrames": 2, "SOPClassUID": EnhancedCTImageStorage}, "a multi-frame file"),
    "pdf": (
        {"Modality": "OT", "SOPClassUID": EncapsulatedPDFStorage, "PixelData": None},
        "Encapsulated PDF without pixel data",
    ),
    "dose page": (
        {
            "SOPClassUID": SecondaryCaptureImageStorage,
            "ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"],
            "ImageOrientationPatient": None,
            "ImagePositionPatient": None,
        },
        "a screen capture",
    ),
    "dose page of no class": (
        {
            "ImageType": ["DERIVED", "SECONDARY", "DOSE_INFO"],
            "ImageOrientationPatient": None,
            "ImagePositionPatient": None,
        },
        "a screen capture",
    ),
    "key objects": (
        {"Modality": "KO", "SOPClassUID": KeyObjectSelectionDocumentStorage, "PixelData": None},
        "another modality: Key Object Selection Document",
    ),
    "private": (
        {"Modality": "CT", "SOPClassUID": "1.2.3.4.5.6", "PixelData": None},
        "a file without pixel data or cut short before it",
    ),
    "DICOMDIR": ({"PixelData": None}, inspection.DICOMDIR),
    "index": (
        {
            "PixelData": None,
            "SOPClassUID": None,
            "MediaStorageSOPClassUID": MediaStorageDirectoryStorage,
        },
        inspection.DICOMDIR,
    ),
}


@pytest.fixture(autouse=True)
def salt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SALT_VARIABLE, "a salt for tests, long enough")


def build(folder: Path | SourceFiles) -> Dataset:
    source = folder if isinstance(folder, SourceFiles) else SourceFiles(folder)
    return build_dataset(
        [source], patterns=[], fractions=Fractions(0.5, 0.25, 0.25), seed=0,
        group_distance_bits=0, resplit=False, limits=Limits(),
    )  # fmt: skip


def odd_tree(folder: Path) -> Path:
    tree(folder)
    for seed, (name, (elements, _)) in enumerate(ODD.items(), start=2000):
        here = folder / "ill/patient 1/deep/er"
        here.mkdir(parents=True, exist_ok=True)
        (here / name).write_bytes(dicom_slice(seed, **elements))
    return folder


def test_odd_objects_are_rejected_each_with_its_kind(tmp_path: Path) -> None:
    dataset = build(odd_tree(tmp_path / "in"))
    assert len(dataset.rows) == 32
    assert {r.path.name: r.kind for r in dataset.rejected} == {
        name: kind for name, (_, kind) in ODD.items()
    }
    reasons = {r.path.name: r.reason for r in dataset.rejected}
    assert "multi-frame file; export the slices as single-frame files" in reasons["frames"]
    assert reasons["DICOMDIR"] == inspection.DICOMDIR
    summary = summarise(dataset, "x", ["folder"], 0)
    assert summary["rejected_by_kind"] == Counter(kind for _, kind in ODD.values())
    lines = report(summary).splitlines()
    assert "rejected files by reason; see rejected.csv" in lines
    assert "       1  a localizer" in lines


def test_a_folder_a_zip_and_a_bucket_give_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = odd_tree(tmp_path / "in")
    expected = build(folder)
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        for path in folder.rglob("*"):
            archive.write(path, path.relative_to(folder))
    assert build(fetch_scans(str(tmp_path / "z.zip"), tmp_path / "w", limits=Limits())).rows\
        == expected.rows  # fmt: skip
    with scripted_s3() as server:
        for name, value in {
            "AWS_ENDPOINT_URL": server.url, "AWS_ACCESS_KEY_ID": "k", "AWS_DEFAULT_REGION": "x-1",
            "AWS_SECRET_ACCESS_KEY": "s",
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        server.objects = {
            f"p/{path.relative_to(folder).as_posix()}": path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }
        fetched = fetch_scans("s3://b/p/", tmp_path / "s3", limits=Limits())
    assert build(fetched).rows == expected.rows


def test_two_orientations_under_one_series_have_no_order(tmp_path: Path) -> None:
    folder = tree(tmp_path / "in")
    tilted = [1, 0, 0, 0, float(np.cos(0.1)), float(np.sin(0.1))]
    for number in range(2):
        (folder / f"ill/patient 1/tilted{number}").write_bytes(
            dicom_slice(3000 + number, PatientID="P1", StudyInstanceUID="1.2.4.1",
                        SeriesInstanceUID="1.2.5.1", ImageOrientationPatient=tilted)
        )  # fmt: skip
    dataset = build(folder)
    assert {row.series for row in dataset.rows} == {f"1.2.5.{n}" for n in range(8)} - {"1.2.5.1"}
    assert len(dataset.rejected) == 6
    assert {r.reason for r in dataset.rejected} == {
        "belongs to a series of several orientations, which has no order; export each orientation "
        "as its own series"
    }


def test_slices_without_positions_are_taken_and_said(tmp_path: Path) -> None:
    folder = tree(tmp_path / "in")
    for number in range(3):
        (folder / f"well/{number}").write_bytes(
            dicom_slice(3000 + number, PatientID="P99", StudyInstanceUID="1.9",
                        SeriesInstanceUID="1.8", ImagePositionPatient=None)
        )  # fmt: skip
    dataset = build(folder)
    own = [row for row in dataset.rows if row.series == "1.8"]
    assert [row.position_mm for row in own] == [None] * 3
    assert "positions: 3 slices without a position; see series.csv" in report(
        summarise(dataset, "x", ["folder"], 0)
    )


def test_processes_give_what_threads_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = odd_tree(tmp_path / "in")
    expected = build(folder)
    monkeypatch.setattr(inspection, "FILES_FOR_PROCESSES", 1)
    dataset = build(folder)
    assert dataset.rows == expected.rows
    assert dataset.rejected == expected.rejected


def test_a_bad_salt_in_a_process_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SALT_VARIABLE, "short")
    monkeypatch.setattr(inspection, "FILES_FOR_PROCESSES", 1)
    with pytest.raises(SourceError, match=r"at least 16 characters\. Received: 5"):
        build(tree(tmp_path / "in"))


def test_pydicoms_own_test_files_are_taken_or_have_a_reason(tmp_path: Path) -> None:
    """Odd and broken DICOM files of every kind; nothing else than a row or a reason comes out."""
    source = tmp_path / "in"
    shutil.copytree(PYDICOM_FILES, source / "odd")
    tree(source)
    found = distinct_scans(
        [SourceFiles(source)], patterns=[], group_distance_bits=0, limits=Limits(),
        hash_patient=patient_hasher(tmp_path),
    )  # fmt: skip
    taken = sum(len(same) for same in found.copies)
    assert taken + len(found.rejected) == found.files
    assert found.files == 32 + sum(1 for path in PYDICOM_FILES.rglob("*") if path.is_file())
    kinds = Counter(refused.kind for refused in found.rejected)
    assert kinds["a magnetic resonance image"] > 10
    assert kinds["CT Image without pixel data"] > 10
    assert kinds[inspection.DICOMDIR] > 2  # some are called otherwise
    assert all("\n" not in refused.reason and refused.reason for refused in found.rejected)
    ours = {same[0].file.path.parts[0] for same in found.copies if same[0].label != "odd"}
    assert ours == {"ill", "well"}
