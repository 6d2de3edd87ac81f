"""Classes from a table of labels."""

from __future__ import annotations

import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from scans.classes import parse_class_patterns
from scans.dataset import build_dataset
from scans.errors import SourceError
from scans.fetch import SourceFiles
from scans.label_table import read_label_table
from scans.limits import Limits
from scans.patients import SALT_VARIABLE, patient_hasher
from scans.prepared import Dataset, write_dataset
from scans.splits import Fractions
from tests.scans.conftest import class_folders, picture
from tests.scans.dicom import dicom_slice


@pytest.fixture(autouse=True)
def salt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SALT_VARIABLE, "a salt for tests, long enough")


def tree(folder: Path) -> Path:
    """Write `<patient>/<slice>`: patients P0 to P7, three slices each, one series a patient."""
    for patient in range(8):
        (folder / f"p{patient}").mkdir(parents=True)
        for number in range(3):
            (folder / f"p{patient}/{number}").write_bytes(
                dicom_slice(
                    100 * patient + number,
                    PatientID=f"P{patient}",
                    StudyInstanceUID=f"1.4.{patient}",
                    SeriesInstanceUID=f"1.5.{patient}",
                )
            )
    return folder


def build(
    folder: Path | list[SourceFiles], table: str | bytes, tmp_path: Path, **more: Any
) -> Dataset:
    labels = tmp_path / "labels.csv"
    labels.write_bytes(table if isinstance(table, bytes) else table.encode())
    defaults: dict[str, Any] = {
        "patterns": [], "fractions": Fractions(0.5, 0.25, 0.25), "seed": 0,
        "group_distance_bits": 0, "resplit": False, "limits": Limits(), "labels": labels,
    }  # fmt: skip
    sources = folder if isinstance(folder, list) else [SourceFiles(folder)]
    return build_dataset(sources, **defaults | more)


def error(folder: Path | list[SourceFiles], table: str | bytes, tmp_path: Path, **more: Any) -> str:
    with pytest.raises(SourceError) as caught:
        build(folder, table, tmp_path, **more)
    assert "\n" not in str(caught.value)
    assert "P1" not in str(caught.value)  # a patient
    return str(caught.value)


def labels_of(dataset: Dataset) -> dict[str, set[str]]:
    found = defaultdict(set)
    for row in dataset.rows:
        found[dataset.origin[row.path].parent.name].add(row.label)
    return dict(found)


BY_PATIENT = "patient,label\n" + "".join(f"P{n},{'ill' if n % 2 else 'well'}\n" for n in range(8))
EXPECTED = {f"p{n}": {"ill" if n % 2 else "well"} for n in range(8)}


@pytest.mark.parametrize(
    "table",
    [
        BY_PATIENT,
        BY_PATIENT.replace("patient", "series").replace("P", "1.5."),
        BY_PATIENT.replace("patient", "study").replace("P", "1.4."),
        "\ufeff" + BY_PATIENT.replace(",", ";").replace("patient", " Patient ")
        .replace("\n", "\r\n"),
        BY_PATIENT.replace(",", "\t").replace("patient\tlabel", "patient\tlabel\tage"),
        "path,label\n" + "".join(
            f"p{n}/{i},{'ill' if n % 2 else 'well'}\n" for n in range(8) for i in range(3)
        ),
        "label,path\n" + "".join(
            f"{'ill' if n % 2 else 'well'},.\\p{n}\\{i}\n" for n in range(8) for i in range(3)
        ),
    ],
)  # fmt: skip
def test_each_key_labels_its_scans(tmp_path: Path, table: str) -> None:
    dataset = build(tree(tmp_path / "in"), table, tmp_path)
    assert labels_of(dataset) == EXPECTED
    assert len(dataset.rows) == 24
    assert dataset.rejected == []
    splits = defaultdict(set)
    for row in dataset.rows:
        splits[row.patient].add(row.split)
    assert len(splits) == 8
    assert all(len(found) == 1 for found in splits.values())


def test_paths_may_leave_out_the_folders_that_all_share(tmp_path: Path) -> None:
    tree(tmp_path / "in/Collection/DICOM")
    table = "path,label\n" + "".join(
        f"p{n}/{i},{'ill' if n % 2 else 'well'}\n" for n in range(8) for i in range(3)
    )
    assert labels_of(build(tmp_path / "in", table, tmp_path)) == EXPECTED


def test_a_more_specific_line_that_agrees_is_no_contradiction(tmp_path: Path) -> None:
    table = BY_PATIENT.replace("patient,label", "path,patient,label").replace("\nP", "\n,P")
    table += "p1/0,P1,ill\np1/1,,ill\n"
    assert labels_of(build(tree(tmp_path / "in"), table, tmp_path)) == EXPECTED


def test_what_no_line_names_is_rejected(tmp_path: Path) -> None:
    dataset = build(tree(tmp_path / "in"), BY_PATIENT.replace("P7,ill\n", ""), tmp_path)
    assert {(r.path.parent.name, r.reason) for r in dataset.rejected} == {
        ("p7", "no line of labels.csv names it")
    }
    assert (len(dataset.rows), len(dataset.rejected), dataset.files) == (21, 3, 24)


def test_pictures_get_patient_series_and_source_from_the_table(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "in", {"x": 24})
    table = "path,label,patient,series,source\n" + "".join(
        f"{n}.png,{'ill' if n % 2 else 'well'},P{n % 8},s{n % 8},site\n" for n in range(24)
    )
    dataset = build(folder, table, tmp_path)
    hashed = patient_hasher(tmp_path)
    for row in dataset.rows:
        number = int(Path(row.path).stem)
        assert row.patient == hashed(f"P{number % 8}")
        assert (row.series, row.source, row.position_mm) == (f"s{number % 8}", "site", None)
    assert len({row.group for row in dataset.rows}) == 8
    write_dataset(dataset, _new(tmp_path / "out"))
    assert "P1" not in (tmp_path / "out/manifest.csv").read_text()
    assert {facts.slices for facts in dataset.series} == {3}


def _new(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("", "holds no label"),
        ("patient,label\n", "holds no label"),
        ("label\nill\n", "at least one of the key columns path, series, study, patient. Received"),
        ("PatientID,label\nP1,ill\n", "'label'. Did you mean 'patient' by 'patientid'?"),
        ("patiant,path,label\nP1,x,ill\n", "Did you mean 'patient' by 'patiant'?"),
        ("patient,patient,label\nP1,P1,ill\n", "two columns 'patient'"),
        ("patient,label\nP1,ill,x\n", "Line 2 of labels.csv has 3 cells. Expected 2"),
        ("patient,label\nP1,ill\n,ill\n", "Line 3 of labels.csv names no scan"),
        ("patient,label\nP1,\n", "in the column label of line 2"),
        ("patient,label\nP1,a/b\n", "Received: 'a/b'"),
        ('patient,label\n"P1,ill\n', "is no line of a CSV file"),
        (b"patient,label\nP1,\xff\xfe\n", "is not UTF-8 text"),
        (BY_PATIENT + "P9,ill\n\nP8,well\n",
         "labels.csv names no file of the source, by patient, in lines 10 and 12"),
        (BY_PATIENT + "P2,ill\n",
         "Lines 4 and 10 of labels.csv give one patient two labels, 'well' and 'ill'"),
        (BY_PATIENT.replace("patient,label", "path,patient,label").replace("\nP", "\n,P")
         + "p2/1,,ill\n",
         "Lines 10 (path) and 4 (patient) of labels.csv give one scan two labels"),
        ("path,patient,label\np0/1,P3,ill\n", "Line 2 of labels.csv gives a scan another patient"),
        ("path,patient,label\np0/1,P0,ill\np0/1,P1,ill\n",
         "Lines 2 and 3 of labels.csv give one path two different values of patient"),
        ("path,series,patient,label\np0/1,s,P0,ill\np0/2,s,P0,ill\np1/0,s,P1,ill\n",
         "Lines 2 and 4 of labels.csv give one series two different values of patient"),
        ("study,patient,label\n1,P0,ill\n1,P1,ill\n",
         "Lines 2 and 3 of labels.csv give one study two different values of patient"),
        ("path,series,label\np0/1,9,ill\n", "Line 2 of labels.csv gives a scan another series"),
        ("patient,label\nP0,ill\n", "at least two class"),
    ],
)  # fmt: skip
def test_tables_that_do_not_fit(tmp_path: Path, table: str | bytes, said: str) -> None:
    assert said in error(tree(tmp_path / "in"), table, tmp_path)


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot be read: No such file or directory"):
        read_label_table(tmp_path / "none.csv")
    with pytest.raises(SourceError, match="cannot be read: Is a directory"):
        read_label_table(tmp_path)


def test_a_line_that_names_a_rejected_file_names_something(tmp_path: Path) -> None:
    folder = tree(tmp_path / "in")
    (folder / "report").write_bytes(dicom_slice(900, PatientID="P9", Modality="SR"))
    (folder / "cut.png").write_bytes(picture(1)[:50])
    table = BY_PATIENT.replace("patient,label", "path,patient,label").replace("\nP", "\n,P")
    dataset = build(folder, table + ",P9,ill\ncut.png,,well\n", tmp_path)
    assert [str(r.path) for r in dataset.rejected] == ["cut.png", "report"]
    assert dataset.rejected[1].reason.startswith("Expected one CT slice as DICOM, received")


def test_a_class_whose_every_file_is_rejected_is_missed(tmp_path: Path) -> None:
    folder = tree(tmp_path / "in")
    (folder / "cut.png").write_bytes(picture(1)[:50])
    table = BY_PATIENT.replace("patient,label", "path,patient,label").replace("\nP", "\n,P")
    said = error(folder, table + "cut.png,,benign\n", tmp_path)
    assert "The class 'benign' has no readable scan. Classes found: 'ill' (12 scans)" in said
    assert "remove its lines from labels.csv" in said


def test_a_picture_of_two_patients_joins_them(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "in", {"x": 24})
    shutil.copyfile(folder / "x/0.png", folder / "x/copy.png")
    table = "path,label,patient\n" + "".join(
        f"{n}.png,{'ill' if n % 2 else 'well'},P{n % 8}\n" for n in range(24)
    )
    dataset = build(folder, table + "copy.png,well,P2\n", tmp_path)
    hashed = patient_hasher(tmp_path)
    groups = {row.group for row in dataset.rows if row.patient in (hashed("P0"), hashed("P2"))}
    assert len(groups) == 1
    assert len({row.group for row in dataset.rows}) == 7
    (warning,) = dataset.warnings
    assert warning.startswith("1 images belong to several patients each.")


def test_one_id_of_two_issuers_is_no_key(tmp_path: Path) -> None:
    folder = tree(tmp_path / "in")
    for path in (folder / "p1").iterdir():
        path.write_bytes(
            dicom_slice(int(path.name) + 500, PatientID="P2", IssuerOfPatientID="B",
                        StudyInstanceUID="1.4.1", SeriesInstanceUID="1.5.1")
        )  # fmt: skip
    said = error(folder, BY_PATIENT.replace("P1,ill\n", ""), tmp_path)
    assert "a patient ID that several issuers have given to different patients in line 3" in said


def test_class_patterns_rename_labels(tmp_path: Path) -> None:
    folder = tree(tmp_path / "in")
    dataset = build(folder, BY_PATIENT, tmp_path, patterns=parse_class_patterns("i*=adeno"))
    assert {row.label for row in dataset.rows} == {"adeno", "well"}
    said = error(folder, BY_PATIENT, tmp_path, patterns=parse_class_patterns("x*=adeno"))
    assert "'x*' matches no label. Labels found: 'ill', 'well'" in said


def test_several_sources_and_one_table(tmp_path: Path) -> None:
    one, two = tree(tmp_path / "one"), tmp_path / "two"
    shutil.copytree(one, two)
    for path in two.rglob("p*/*"):
        path.write_bytes(dicom_slice(5000 + 100 * int(path.parent.name[1]) + int(path.name),
                                     PatientID=f"Q{path.parent.name[1]}",
                                     StudyInstanceUID=f"2.4.{path.parent.name[1]}",
                                     SeriesInstanceUID=f"2.5.{path.parent.name[1]}"))  # fmt: skip
    sources = [SourceFiles(one, name="one"), SourceFiles(two, name="two")]
    assert "Line 2 of labels.csv names two files by path, one/p0/0 and two/p0/0" in error(
        sources, "path,label\np0/0,ill\n", tmp_path
    )
    assert "names the source 'three' in line 2. Expected one of one, two" in error(
        sources, "path,label,source\np0/0,ill,three\n", tmp_path
    )
    lines = [f"p{n}/{i},{'ill' if n % 2 else 'well'}" for n in range(8) for i in range(3)]
    table = "path,label,source\n" + "".join(f"{line},one\n{line},two\n" for line in lines)
    dataset = build(sources, table, tmp_path)
    assert len(dataset.rows) == 48
    assert {row.source for row in dataset.rows} == {"one", "two"}
