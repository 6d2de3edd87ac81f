"""The recipes' benchmark: its variants, tables, choice by speed, and the trained block."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from benchmarks import recipe_printed as printed
from benchmarks.recipe import LENT, VARIANTS
from benchmarks.recipe_pixels import Variant, lent_levels, pixels
from benchmarks.recipe_scans import DIRECTIONS, Scan
from benchmarks.recipe_table import DEFAULT, SERVED_CONTRAST, by_speed
from model.features import feature_vectors
from model.network import export
from model.preprocessing import Preprocessing, prepared_pixels
from model.runtime import Runtime
from model.tensors import random_tensors
from scans.phantom.drawing import make_phantom


def row(side: int, features: str, head: str, areas: list[float]) -> dict[str, Any]:
    variant = Variant(contrast=SERVED_CONTRAST, side=side)
    return {
        "pixels": variant.name,
        "words": variant.words,
        "features": features,
        "head": head,
        "side": side,
        "auc": {
            name: {"auc": area, "ci95": [area - 0.1, area + 0.01]}
            for name, area in zip(DIRECTIONS, areas, strict=True)
        },
        "worst": min(areas),
        "kernel_changes": dict.fromkeys(DIRECTIONS, 0.03),
        "within_zip": {"balanced_accuracy": 0.95},
    }


def test_every_variant_has_a_name_and_words_of_its_own() -> None:
    every = (*VARIANTS, *LENT)
    assert len({variant.name for variant in every}) == len(every)
    assert len({variant.words for variant in every}) == len(every)
    assert Variant(contrast=SERVED_CONTRAST, side=448).words == "448 px, medians 32–128"
    assert Variant(donors="class").words == "stretched, levels lent within the class"


def test_the_kept_aspect_ratio_leaves_a_long_body_long() -> None:
    picture = Image.new("L", (300, 300))
    ImageDraw.Draw(picture).ellipse((30, 100, 270, 200), fill=180)
    grey = np.asarray(picture)

    def shape(crop: str) -> float:
        rows, columns = np.nonzero(pixels(grey, Variant(crop=crop))[..., 0] > 128)
        return float(np.ptp(columns) / np.ptp(rows))

    inside = 0.94  # the body's box leaves 3 % out on either side
    assert shape("aspect") == pytest.approx(2.4 * inside, rel=0.03)
    assert shape("body") == pytest.approx(1.0, rel=0.05)


def test_the_product_can_show_the_network_what_was_compared_here() -> None:
    grey = make_phantom(5, nodule=True, image_size_px=(400, 300)).image
    for crop, settings in (
        ("body", Preprocessing(crop_aspect="stretched")),
        ("aspect", Preprocessing(crop_aspect="kept")),
    ):
        compared = pixels(grey, Variant(crop=crop, contrast=SERVED_CONTRAST))
        assert np.array_equal(compared, prepared_pixels(grey, settings))


def test_grey_levels_are_lent_within_the_class_or_by_other_sources_only(tmp_path: Path) -> None:
    archive = tmp_path / "scans.zip"
    ramp = np.linspace(0, 19, 64).astype(np.uint8)
    lowest = {("zip", "normal"): 0, ("zip", "cancer"): 100, ("lidc", "nodule"): 200}
    scans = []
    with zipfile.ZipFile(archive, "w") as files:
        for source, label in lowest:
            for number in range(2):
                file = io.BytesIO()
                levels = np.tile(ramp + lowest[source, label] + number, (48, 1))
                Image.fromarray(levels).save(file, "PNG")
                name = f"{source}/{label}/{number}.png"
                files.writestr(name, file.getvalue())
                digest = f"{len(scans):064x}"
                scans.append(Scan(str(archive), source, name, label, digest, len(scans)))
    own = scans[:4]
    for scan, lent in zip(own, lent_levels(own, scans, "class"), strict=True):
        low = lowest[scan.source, scan.label]
        assert low <= np.median(lent) <= low + 20
    assert all(np.median(lent) >= 200 for lent in lent_levels(own, scans, "sources"))


def test_the_cheapest_input_near_the_best_worst_direction_is_marked() -> None:
    few = "whitened 0.92, L2 30"
    rows = [
        row(224, "root5", few, [0.950, 0.96, 0.97, 0.98]),
        row(224, "root5", "shrunk LDA 0.98", [0.94, 0.93, 0.97, 0.98]),
        row(320, "root5", few, [0.952, 0.96, 0.95, 0.98]),
        row(448, "root5", few, [0.963, 0.97, 0.98, 0.99]),
        row(448, "root5", "logistic, L2 1", [0.999, 0.999, 0.999, 0.999]),  # not at every size
    ]
    found = by_speed(rows, {(224, "root5"): 1.0, (320, "root5"): 0.5, (448, "root5"): 0.25})
    assert [r["worst"] for r in found] == [0.950, 0.95, 0.963]
    assert [r["larger_pair"] for r in found] == [0.97, 0.95, 0.98]
    assert [r["cheapest_near_the_best"] for r in found] == [False, False, True]
    rows[0]["worst"] = 0.954
    found = by_speed(rows, {(224, "root5"): 1.0, (320, "root5"): 0.5, (448, "root5"): 0.25})
    assert [r["cheapest_near_the_best"] for r in found] == [True, False, False]


def test_the_printed_table_has_the_best_first_and_the_default_bold() -> None:
    rows = [
        row(224, "root5", DEFAULT[2], [0.95, 0.96, 0.97, 0.98]),
        row(448, "root4+top5", "shrunk LDA 0.98", [0.97, 0.96, 0.97, 0.98]),
    ]
    lines = printed.recipes(rows, DEFAULT).splitlines()
    assert lines[0].startswith("| Pixels | Features | Head | zip → IQ | IQ → zip | Kaggle → IQ |")
    assert lines[2].startswith("| 448 px, medians 32–128 | 4 + largest eighth 5 | shrunk LDA 0.98 ")
    assert "| 0.970 (0.87–0.98) |" in lines[2]
    assert lines[3].startswith("| **medians 32–128** | **5** | **whitened 0.92, L2 30** ")
    assert len({line.count("|") for line in lines}) == 1


@pytest.mark.slow
def test_block_5_is_trained_from_the_default_head_and_untrained_it_is_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks import recipe_fine_tuned

    monkeypatch.setattr(recipe_fine_tuned, "EPOCHS", 2)
    tensors = random_tensors(0)
    shown = np.random.default_rng(0).integers(0, 256, (6, 224, 224, 3), np.uint8)
    export(tensors, 224, tmp_path / "whole.xml", "f32")
    export(tensors, 224, tmp_path / "lower.xml", "f32", blocks=4)
    expected = feature_vectors(Runtime(tmp_path / "whole.xml", "f32")(shown))
    maps = Runtime(tmp_path / "lower.xml", "f32")(shown).astype(np.float16)
    sick, train = np.array([0, 1, 0, 1, 0, 1]), np.array([True] * 4 + [False] * 2)
    head = np.random.default_rng(1).normal(size=512), 0.5

    def trained(rate: float) -> tuple[Any, Any]:
        return recipe_fine_tuned._trained(train, sick, head, rate, tensors, maps)

    features, own = trained(0.0)
    np.testing.assert_allclose(features, expected, rtol=0.02, atol=1e-4)
    np.testing.assert_allclose(own, features @ head[0] + head[1], rtol=1e-3, atol=1e-3)
    changed, score = trained(1e-3)
    assert np.abs(changed - features).max() > 1e-3
    assert score[:4][sick[:4] == 1].mean() > score[:4][sick[:4] == 0].mean()
