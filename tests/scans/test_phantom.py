from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from scans.errors import SourceError
from scans.phantom.drawing import WINDOWS, make_phantom, write_phantoms


def test_one_seed_gives_one_slice_and_another_seed_another() -> None:
    first, again = (make_phantom(7, nodule=True) for _ in range(2))
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.nodule_mask, again.nodule_mask)
    assert first.nodules == again.nodules
    other = make_phantom(8, nodule=True)
    assert other.image.shape != first.image.shape or (other.image != first.image).any()


@pytest.mark.parametrize("seed", range(6))
def test_only_the_nodule_tells_the_classes_apart(seed: int) -> None:
    ill, well = (make_phantom(seed, nodule=nodule) for nodule in (True, False))
    assert ill.image.shape == well.image.shape
    assert ill.window == well.window
    differs = ill.image != well.image
    # Blurring, and thin tips of spicules, reach a few pixels beyond the mask.
    assert not (differs & ~ndimage.binary_dilation(ill.nodule_mask, iterations=16)).any()
    assert differs[ill.nodule_mask].mean() > 0.5
    assert well.nodules == ()
    assert not well.nodule_mask.any()


@pytest.mark.parametrize("seed", range(6))
def test_the_mask_is_the_nodule(seed: int) -> None:
    phantom = make_phantom(seed, nodule=True)
    assert phantom.image.dtype == np.uint8
    assert phantom.nodule_mask.dtype == np.bool_
    assert phantom.nodules == tuple(sorted(phantom.nodules, key=lambda n: -n.radius_mm))
    for nodule in phantom.nodules:
        x, y = nodule.centre_px
        assert phantom.nodule_mask[round(y), round(x)]
    assert 0.003 < phantom.nodule_mask.mean() < 0.1
    # Soft tissue in lung: the nodule is brighter than what surrounds it.
    near = ndimage.binary_dilation(phantom.nodule_mask, iterations=12)
    around = near & ~ndimage.binary_dilation(phantom.nodule_mask, iterations=4)
    core = ndimage.binary_erosion(phantom.nodule_mask, iterations=2)
    assert np.median(phantom.image[core]) > np.percentile(phantom.image[around], 25) + 20


def test_image_size_is_honoured_and_checked() -> None:
    phantom = make_phantom(1, nodule=True, image_size_px=(224, 200))
    assert phantom.image.shape == phantom.nodule_mask.shape == (200, 224)
    with pytest.raises(SourceError, match=r"at least 64 pixels a side. Received: 224 x 10"):
        make_phantom(1, nodule=True, image_size_px=(224, 10))


def test_the_default_set_is_240_slices_with_masks_of_the_nodules(phantom_set: Path) -> None:
    names = {
        label: sorted(path.name for path in (phantom_set / "scans" / label).iterdir())
        for label in ("adenocarcinoma", "normal")
    }
    assert {label: len(files) for label, files in names.items()} == {
        "adenocarcinoma": 120,
        "normal": 120,
    }
    assert (
        sorted(path.name for path in (phantom_set / "masks").iterdir()) == names["adenocarcinoma"]
    )
    name = names["adenocarcinoma"][3]
    with (
        Image.open(phantom_set / "masks" / name) as mask,
        Image.open(phantom_set / "scans/adenocarcinoma" / name) as scan,
    ):
        assert mask.size == scan.size
        assert set(np.unique(np.asarray(mask))) == {0, 255}


def test_every_window_is_used(phantom_set: Path) -> None:
    # The file does not say its window; the seeds of the default set do.
    assert {make_phantom((0, n), nodule=False).window for n in range(12)} == set(WINDOWS)


def test_a_smaller_set_begins_like_the_default_one(phantom_set: Path, tmp_path: Path) -> None:
    write_phantoms(tmp_path / "scans", tmp_path / "masks", images=4)
    for path in (tmp_path / "scans").rglob("*.png"):
        same = phantom_set / "scans" / path.relative_to(tmp_path / "scans")
        assert path.read_bytes() == same.read_bytes()


def test_too_few_images(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="phantom_images of at least 2"):
        write_phantoms(tmp_path / "scans", tmp_path / "masks", images=1)


def test_brightness_size_and_framing_do_not_tell_the_classes_apart(phantom_set: Path) -> None:
    brightness, framing, ill = [], [], []
    for path in sorted((phantom_set / "scans").rglob("*.png")):
        pixels = np.asarray(Image.open(path), dtype=np.float64)
        height, width = pixels.shape
        body = pixels > pixels.mean()
        rows, columns = np.flatnonzero(body.any(axis=1)), np.flatnonzero(body.any(axis=0))
        edges = (rows[0] / height, rows[-1] / height, columns[0] / width, columns[-1] / width)
        framing.append([height, width, *edges])
        brightness.append([pixels.mean(), pixels.std(), *np.percentile(pixels, [10, 50, 90])])
        ill.append(path.parent.name == "adenocarcinoma")
    model = make_pipeline(StandardScaler(), LogisticRegression())
    # The area's standard error is about 0.04 for 120 against 120 (Hanley & McNeil 1982).
    for features in (brightness, framing):
        table = np.array(features)
        assert all(0.4 < roc_auc_score(ill, column) < 0.6 for column in table.T)
        scores = cross_val_predict(model, table, ill, cv=10, method="predict_proba")[:, 1]
        assert roc_auc_score(ill, scores) < 0.62
    assert sorted(size[:2] for size, is_ill in zip(framing, ill, strict=True) if is_ill) == sorted(
        size[:2] for size, is_ill in zip(framing, ill, strict=True) if not is_ill
    )
