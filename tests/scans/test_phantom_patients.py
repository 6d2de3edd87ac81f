"""Synthetic patients: series of slices as DICOM, a nodule in a few neighbouring slices."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from model.decoding.decoded import Decoded
from model.decoding.scan_file import decode
from scans.dataset import build_dataset
from scans.errors import SourceError
from scans.fetch import SourceFiles, fetch_scans
from scans.limits import Limits
from scans.patients import SALT_VARIABLE
from scans.phantom.patients import write_phantom_patients
from scans.phantom.volumes import (
    SIDE_PX,
    SLICES,
    SPACING_MM,
    Framing,
    draw_patient,
    random_framing,
)
from scans.splits import Fractions

PATIENTS = 24


def framing_of(seed: int, series: int = 1) -> Framing:
    return random_framing(np.random.default_rng(seed), series)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`scans/<class>/<patient>/<series>/*.dcm` and `masks/*.png`."""
    folder = tmp_path_factory.mktemp("patients")
    write_phantom_patients(folder / "scans", folder / "masks", patients=PATIENTS)
    return folder


@pytest.fixture(scope="module")
def slices(written: Path) -> dict[str, Decoded]:
    """Every slice, decoded, by the stem of its file."""
    return {p.stem: decode(p.read_bytes()) for p in sorted((written / "scans").rglob("*.dcm"))}


def by_series(slices: dict[str, Decoded]) -> dict[str, list[str]]:
    found = defaultdict(list)
    for name, scan in slices.items():
        assert scan.header is not None
        found[scan.header.series_uid].append(name)
    return found


def test_series_are_whole_and_in_order(slices: dict[str, Decoded]) -> None:
    series = by_series(slices)
    for names in series.values():
        headers = [slices[name].header for name in sorted(names)]
        positions = [h.position_along_normal_mm or 0.0 for h in headers if h]
        assert len(positions) == SLICES
        assert np.allclose(np.diff(positions), SPACING_MM)
        assert len({(h.patient_id, h.study_uid, h.kernel, h.manufacturer) for h in headers if h})\
            == 1  # fmt: skip
    per_patient = defaultdict(set)
    for name, scan in slices.items():
        assert scan.header is not None
        per_patient[name[:12]].add(scan.header.series_uid)
        assert scan.grey.shape == (SIDE_PX, SIDE_PX)
    assert len(per_patient) == PATIENTS
    # The third and fourth patient, the eleventh and twelfth, … have two series.
    several = {name for name, found in per_patient.items() if len(found) == 2}
    assert several == {f"phantom-{n:04d}" for n in range(PATIENTS) if n % 8 in (2, 3)}
    assert all(len(found) in (1, 2) for found in per_patient.values())


def test_there_are_two_makes_and_two_kernels_of_each(slices: dict[str, Decoded]) -> None:
    kernels = defaultdict(set)
    for seed in range(40):
        framing = framing_of(seed)
        kernels[framing.scanner.manufacturer].update(kernel.name for kernel in framing.kernels)
    assert sorted(map(len, kernels.values())) == [2, 2]
    makes = {scan.header.manufacturer for scan in slices.values() if scan.header}
    assert makes == set(kernels)


def test_a_nodule_is_in_a_few_neighbouring_slices_of_half_of_the_patients(
    written: Path, slices: dict[str, Decoded]
) -> None:
    masks = {path.stem for path in (written / "masks").iterdir()}
    sick = {p.stem for p in (written / "scans/adenocarcinoma").rglob("*.dcm")}
    assert masks == sick
    assert len({name[:12] for name in sick}) == PATIENTS // 2
    for names in by_series(slices).values():
        shown = [name in sick for name in sorted(names)]
        if any(shown):
            assert 2 <= sum(shown) < SLICES  # the others of its slices are normal
            first = shown.index(True)
            assert all(shown[first : first + sum(shown)])  # without a gap
    for name in sorted(sick)[:8]:
        with Image.open(written / f"masks/{name}.png") as image:
            mask = np.asarray(image) > 0
        grey = slices[name].grey
        assert mask.shape == grey.shape
        assert 50 < mask.sum() < grey.size / 10
        assert grey[mask].mean() > 180  # soft tissue in a lung window


def test_the_classes_differ_by_the_nodule_alone() -> None:
    for seed in range(3):
        framing = framing_of(seed)
        sick = draw_patient((seed,), framing, nodule=True)
        well = draw_patient((seed,), framing, nodule=False)
        assert sick.mm_per_px == well.mm_per_px
        for with_nodule, without in zip(sick.series[0], well.series[0], strict=True):
            assert not without.nodule_mask.any()
            changed = np.abs(with_nodule.hu - without.hu) > 1
            near = np.asarray(
                Image.fromarray(with_nodule.nodule_mask).resize((48, 48), Image.Resampling.BOX)
            )
            assert changed.any() == near.any()
            assert with_nodule.position_mm == without.position_mm
            border = with_nodule.hu[:20]
            assert np.array_equal(border, without.hu[:20])


def test_brightness_size_and_framing_do_not_tell_the_classes_apart(
    written: Path, slices: dict[str, Decoded]
) -> None:
    sick = {p.stem for p in (written / "scans/adenocarcinoma").rglob("*.dcm")}
    of_slices, of_patients = defaultdict(list), defaultdict(list)
    for name, scan in slices.items():
        grey = scan.grey.astype(np.float64)
        body = grey > grey.mean()
        rows, columns = np.flatnonzero(body.any(axis=1)), np.flatnonzero(body.any(axis=0))
        edges = (rows[0], rows[-1], columns[0], columns[-1])
        facts = (grey.mean(), grey.std(), *np.percentile(grey, [10, 50, 90]), *edges)
        of_slices[name in sick].append(facts)
        of_patients[int(name[8:12]) % 2 == 1].append(facts)
        assert scan.grey.shape == (SIDE_PX, SIDE_PX)
    for found in (of_slices, of_patients):
        ill = [True] * len(found[True]) + [False] * len(found[False])
        for column in np.array(found[True] + found[False]).T:
            assert 0.36 < roc_auc_score(ill, column) < 0.64


def test_two_kernels_of_one_slice_differ_in_grain_only() -> None:
    framing = framing_of(0, series=2)
    smooth, sharp = draw_patient((1,), framing, nodule=True).series
    for one, other in zip(smooth, sharp, strict=True):
        assert one.position_mm == other.position_mm
        assert np.array_equal(one.nodule_mask, other.nodule_mask)
        assert np.abs((one.hu - other.hu).mean()) < 2
        assert np.diff(other.hu[:20]).std() > 1.3 * np.diff(one.hu[:20]).std()


def test_the_same_seed_draws_the_same_files(tmp_path: Path, written: Path) -> None:
    write_phantom_patients(tmp_path / "s", tmp_path / "m", patients=6)
    for path in (tmp_path / "s").rglob("*.dcm"):
        twin = written / "scans" / path.relative_to(tmp_path / "s")
        assert path.read_bytes() == twin.read_bytes()


def test_patients_stay_whole_in_a_data_set(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SALT_VARIABLE, "a salt for tests, long enough")
    dataset = build_dataset(
        [SourceFiles(written / "scans")], patterns=[], fractions=Fractions(0.4, 0.2, 0.4), seed=0,
        group_distance_bits=10, resplit=False, limits=Limits(),
    )  # fmt: skip
    assert dataset.rejected == []
    splits = defaultdict(set)
    for row in dataset.rows:
        splits[row.patient].add(row.split)
    assert len(splits) == PATIENTS
    assert all(len(found) == 1 for found in splits.values())
    for split in ("train", "validation", "test"):
        assert {row.label for row in dataset.rows if row.split == split} == {
            "adenocarcinoma", "normal"
        }  # fmt: skip
    assert all(facts.missing == facts.duplicates == 0 for facts in dataset.series)
    assert {facts.spacing_mm for facts in dataset.series} == {SPACING_MM}


@pytest.mark.parametrize("patients", [0, 1, 5])
def test_too_few_patients(tmp_path: Path, patients: int) -> None:
    with pytest.raises(SourceError, match=f"at least 6, .* Received: {patients}"):
        fetch_scans("phantom", tmp_path, limits=Limits(), phantom_patients=patients)


def test_patients_are_drawn_unless_single_slices_are_asked_for(tmp_path: Path) -> None:
    few = fetch_scans("phantom", tmp_path / "p", limits=Limits(), phantom_patients=6)
    assert {path.suffix for path in few.folder.rglob("*.*")} == {".dcm"}
    single = fetch_scans(
        "phantom", tmp_path / "s", limits=Limits(), phantom_images=4, phantom_patients=6
    )
    assert len(list(single.folder.rglob("*.png"))) == 4
    assert not list(single.folder.rglob("*.dcm"))
