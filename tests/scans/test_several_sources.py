"""Several sources in one data set."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest
from PIL import Image

from scans.dataset import build_dataset
from scans.errors import SourceError
from scans.fetch import SourceFiles, fetch_sources
from scans.limits import Limits
from scans.manifest import read_manifest, write_manifest
from scans.prepared import Dataset, write_dataset
from scans.sources import NamedSource, parse_sources, redacted
from scans.splits import Fractions
from scans.summary import report, summarise
from tests.scans.conftest import class_folders, picture


def build(*sources: SourceFiles) -> Dataset:
    return build_dataset(
        sources, patterns=[], fractions=Fractions(), seed=0, group_distance_bits=40,
        resplit=False, limits=Limits(),
    )  # fmt: skip


def two_sites(tmp_path: Path) -> tuple[SourceFiles, SourceFiles]:
    kaggle = class_folders(tmp_path / "k/Data", {"ill": 8, "well": 8})
    other = class_folders(tmp_path / "iq", {"benign": 6, "ill": 8, "well": 8}, first_seed=50)
    return SourceFiles(kaggle.parent, name="kaggle"), SourceFiles(other, name="iq")


def test_sources_are_read_as_they_are_written(tmp_path: Path) -> None:
    assert parse_sources("kaggle=/data/a.zip; iq=s3://b/p/;") == [
        NamedSource("kaggle", "/data/a.zip"), NamedSource("iq", "s3://b/p/")
    ]  # fmt: skip
    for one in ("phantom", "/data/a.zip", "https://host/a.zip?sig=a;b=c", ""):
        assert parse_sources(one) == [NamedSource(None, one)]
    odd = tmp_path / "a=b;c=d"
    odd.mkdir()
    assert parse_sources(str(odd)) == [NamedSource(None, str(odd))]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a=/x;a=/y", "Received two with the name 'a'"),
        ("a=/x;b=/x", "Received two with the place '/x'"),
        ("a=/x;/y", "as name=where;name=where"),
        ("a=/x;b=", "as name=where;name=where"),
        ("a=/x;b c=/y", "as name=where;name=where"),
    ],
)
def test_sources_that_are_none(text: str, said: str) -> None:
    with pytest.raises(SourceError, match=said) as caught:
        parse_sources(text)
    assert "\n" not in str(caught.value)


def test_one_place_under_two_spellings(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="two with the place"):
        parse_sources(f"a={tmp_path};b={tmp_path}/../{tmp_path.name}")


def test_secrets_of_several_sources_are_left_out() -> None:
    assert redacted("a=https://me:pw@h/z.zip?sig=s;b=/data/b") == "a=https://h/z.zip;b=/data/b"


def test_each_scan_remembers_its_source(tmp_path: Path) -> None:
    kaggle, iq = two_sites(tmp_path)
    dataset = build(kaggle, iq)
    assert {(row.source, row.label) for row in dataset.rows} == {
        ("kaggle", "ill"), ("kaggle", "well"), ("iq", "benign"), ("iq", "ill"), ("iq", "well")
    }  # fmt: skip
    for row in dataset.rows:
        below = kaggle.folder if row.source == "kaggle" else iq.folder
        assert dataset.origin[row.path].is_relative_to(below)
    assert len(dataset.rows) == 38
    write_dataset(dataset, tmp_path / "iq")
    assert read_manifest(tmp_path / "iq") == dataset.rows
    summary = summarise(dataset, "kaggle=…;iq=…", ["folder", "folder"], 40)
    assert summary["sources"] == {
        "iq": {"benign": 6, "ill": 8, "well": 8}, "kaggle": {"ill": 8, "well": 8}
    }  # fmt: skip
    assert "source kaggle: ill 8, well 8" in report(summary)


def test_a_class_of_one_source_is_warned_about(tmp_path: Path) -> None:
    dataset = build(*two_sites(tmp_path))
    (warning,) = dataset.warnings
    assert warning.startswith("Only the source 'iq' has scans of the class 'benign'.")
    assert f"Warning: {warning}" in report(summarise(dataset, "…", ["folder"], 40))
    assert build(SourceFiles(tmp_path / "iq")).warnings == []


def test_what_two_sources_share_is_one_group_and_reported(tmp_path: Path) -> None:
    kaggle, iq = two_sites(tmp_path)
    shutil.rmtree(iq.folder / "benign")
    shutil.copyfile(kaggle.folder / "Data/ill/0.png", iq.folder / "ill/same.png")
    with Image.open(kaggle.folder / "Data/well/1.png") as image:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=80)
    (iq.folder / "well/near.jpg").write_bytes(file.getvalue())
    dataset = build(kaggle, iq)
    assert (dataset.sharing.images, len(dataset.sharing.groups)) == (1, 2)
    for group in dataset.sharing.groups:
        assert len({row.split for row in dataset.rows if row.group == group}) == 1
    (near,) = [row for row in dataset.rows if row.path.endswith("near.jpg")]
    assert near.source == "iq"
    assert {row.source for row in dataset.rows if row.group == near.group} == {"kaggle", "iq"}
    (warning,) = dataset.warnings
    assert warning.startswith("1 images lie in several sources, and 2 groups hold scans of several")


def test_rejected_files_are_named_with_their_source(tmp_path: Path) -> None:
    kaggle, iq = two_sites(tmp_path)
    (kaggle.folder / "Data/ill/notes.txt").write_text("hello")
    (iq.folder / "ill/cut.png").write_bytes(picture(99)[:60])
    shutil.copyfile(kaggle.folder / "Data/ill/0.png", iq.folder / "well/x.png")
    dataset = build(kaggle, iq)
    assert [str(r.path) for r in dataset.rejected] == [
        "iq/ill/cut.png", "iq/well/x.png", "kaggle/Data/ill/0.png", "kaggle/Data/ill/notes.txt"
    ]  # fmt: skip
    assert dataset.files == sum(row.copies for row in dataset.rows) + len(dataset.rejected)


def test_digests_go_with_the_names(tmp_path: Path) -> None:
    kaggle, iq = two_sites(tmp_path)
    archive = Path(shutil.make_archive(str(tmp_path / "z"), "zip", kaggle.folder))
    text = f"kaggle={archive};iq={iq.folder}"
    with pytest.raises(SourceError, match="is not the file that sha256 names"):
        fetch_sources(text, tmp_path / "w", sha256=f"kaggle={'0' * 64}", limits=Limits())
    with pytest.raises(SourceError, match=r"sha256 as name=digest.* \(kaggle, iq\)"):
        fetch_sources(text, tmp_path / "w2", sha256="0" * 64, limits=Limits())
    fetched = fetch_sources(text, tmp_path / "w3", limits=Limits())
    assert [(one.name, one.kind) for one in fetched] == [("kaggle", "zip"), ("iq", "folder")]


def test_a_manifest_without_the_new_columns_says_what_to_do(tmp_path: Path) -> None:
    write_manifest(build(*two_sites(tmp_path)).rows, tmp_path)
    text = (tmp_path / "manifest.csv").read_text()
    (tmp_path / "manifest.csv").write_text(text.replace(",position_mm,source", "", 1))
    with pytest.raises(SourceError, match="Run data_ingestion again"):
        read_manifest(tmp_path)
