"""The crop's aspect ratio, stretched or kept: its pixels, its place, and what models carry."""

from __future__ import annotations

import json
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from model import crop, decision
from model.artefact import NETWORK, Card, Head
from model.body import WHOLE, body_box
from model.contrast import fixed_medians
from model.crop import cut_out
from model.decoding.scan_file import decode_grey
from model.explain import HEATMAP_SIDE_PX, whole_scan
from model.features import feature_vectors
from model.preprocessing import Preprocessing, prepared_pixels, scan_pixels, shown
from model.runtime import Runtime
from scans.phantom.drawing import make_phantom
from tests.model.small_model import SIDE_PX, save_small_model
from tests.model.test_body import chest
from tests.model.test_dicom import file_bytes, slice_dataset
from tests.model.test_images import encode

Grey = NDArray[np.uint8]
KEPT, STRETCHED = Preprocessing(crop_aspect="kept"), Preprocessing()
BODIES = {  # width and height of a picture, and the body in it
    "wide, in the middle": ((512, 512), (60, 160, 450, 350)),
    "wide, fills the picture": ((500, 260), (2, 2, 498, 258)),
    "at the top edge": ((512, 512), (40, 0, 480, 240)),
    "at the right edge": ((400, 600), (180, 100, 399, 290)),
    "high picture": ((300, 700), (10, 300, 290, 470)),
    "odd sizes": ((333, 517), (31, 77, 307, 241)),
}


def picture(name: str) -> Grey:
    """Draw a chest in a picture of another size, with noise."""
    (width, height), body = BODIES[name]
    side = max(width, height)
    grey = np.asarray(chest(body, side))[:height, :width].astype(int)
    noise = np.random.default_rng(1).integers(0, 12, grey.shape)
    return (grey + noise).astype(np.uint8)


def padded_with_pillow(grey: Grey, box: tuple[float, ...], side: int = 224) -> Grey:
    """Pad a box to a square and resize it, as the recipes were compared with."""
    height, width = grey.shape
    edges = [edge * size for edge, size in zip(box, (width, height) * 2, strict=True)]
    long = max(edges[2] - edges[0], edges[3] - edges[1])
    x, y = (edges[0] + edges[2] - long) / 2, (edges[1] + edges[3] - long) / 2
    square = Image.fromarray(grey).transform(
        (round(long), round(long)), Image.Transform.EXTENT, (x, y, x + long, y + long)
    )
    return np.asarray(square.resize((side, side), Image.Resampling.BILINEAR))


@pytest.mark.parametrize("name", BODIES)
def test_the_kept_ratio_gives_the_pixels_that_recipes_were_compared_with(name: str) -> None:
    grey = picture(name)
    box = body_box(grey)
    assert box != WHOLE
    expected = fixed_medians(padded_with_pillow(grey, box))
    pixels = prepared_pixels(grey, KEPT)
    assert np.array_equal(pixels, np.repeat(expected[..., np.newaxis], 3, axis=2))
    assert np.abs(pixels.astype(int) - prepared_pixels(grey, STRETCHED)).mean() > 5


def test_png_and_dicom_files_keep_the_ratio_alike() -> None:
    grey = picture("odd sizes")
    stored = (grey.astype(int) * 5 + 300).astype(np.uint16)
    for data in (encode(Image.fromarray(grey), "PNG"), file_bytes(slice_dataset(stored))):
        decoded = decode_grey(data)
        assert decoded.shape == grey.shape
        expected = fixed_medians(padded_with_pillow(decoded, body_box(decoded)))
        assert np.array_equal(scan_pixels(data, KEPT)[..., 0], expected)


@pytest.mark.parametrize("name", BODIES)
def test_the_stretched_crop_fills_the_square(name: str) -> None:
    grey = picture(name)
    height, width = grey.shape
    box = body_box(grey)
    edges = tuple(edge * size for edge, size in zip(box, (width, height) * 2, strict=True))
    expected = Image.fromarray(grey).resize((224, 224), Image.Resampling.BILINEAR, box=edges)
    cut = cut_out(grey, box, 224, "stretched")
    assert np.array_equal(cut.grey, np.asarray(expected))
    assert cut.box == box


@pytest.mark.parametrize("name", BODIES)
def test_a_circle_stays_a_circle_and_is_where_the_box_says(name: str) -> None:
    grey = picture(name)
    marked = Image.fromarray(grey)
    left, top, right, bottom = BODIES[name][1]
    x, y = left + 0.6 * (right - left), (top + bottom) / 2
    radius = 0.12 * (bottom - top)
    ImageDraw.Draw(marked).ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    seen = cut_out(np.asarray(marked), body_box(grey), 224, "kept")
    rows, columns = np.nonzero(seen.grey > 200)
    assert np.ptp(columns) == pytest.approx(np.ptp(rows), abs=1)
    in_box = (columns.mean() + 0.5) / 224, (rows.mean() + 0.5) / 224
    height, width = grey.shape
    at_x = seen.box[0] + in_box[0] * (seen.box[2] - seen.box[0])
    at_y = seen.box[1] + in_box[1] * (seen.box[3] - seen.box[1])
    assert (at_x * width, at_y * height) == pytest.approx((x, y), abs=2)


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("settings", [KEPT, STRETCHED], ids=["kept", "stretched"])
def test_a_heat_map_of_the_pixels_lies_on_the_scan(name: str, settings: Preprocessing) -> None:
    grey = picture(name)
    marked = Image.fromarray(grey)
    left, top, right, bottom = BODIES[name][1]
    x, y = left + 0.35 * (right - left), top + 0.6 * (bottom - top)
    ImageDraw.Draw(marked).ellipse((x - 12, y - 12, x + 12, y + 12), fill=255)
    pixels, box = shown(np.asarray(marked), settings)
    heat = whole_scan(pixels[..., 0].astype(np.float64), box)
    assert heat.shape == (HEATMAP_SIDE_PX, HEATMAP_SIDE_PX)
    assert heat.max() == 1
    rows, columns = np.nonzero(heat > 0.9)
    height, width = grey.shape
    assert (columns.mean() + 0.5) / HEATMAP_SIDE_PX * width == pytest.approx(x, abs=width / 100)
    assert (rows.mean() + 0.5) / HEATMAP_SIDE_PX * height == pytest.approx(y, abs=height / 100)


def test_without_a_body_the_whole_picture_is_shown_with_its_ratio() -> None:
    grey = np.full((100, 400), 90, np.uint8)
    assert body_box(grey) == WHOLE
    cut = cut_out(grey, WHOLE, 80, "kept")
    assert cut.box == (0.0, -1.5, 1.0, 2.5)
    assert (cut.grey[31:49] == 90).all()
    assert not cut.grey[:29].any() and not cut.grey[51:].any()
    assert (cut_out(grey, WHOLE, 80, "stretched").grey == 90).all()


def test_a_fixed_crop_keeps_its_ratio_too() -> None:
    grey = picture("high picture")
    settings = Preprocessing(crop="fixed", crop_fraction=0.1, crop_aspect="kept")
    seen = shown(grey, settings)
    assert np.array_equal(
        seen.pixels[..., 0], fixed_medians(padded_with_pillow(grey, (0.1, 0.1, 0.9, 0.9)))
    )
    left, top, right, bottom = seen.box
    assert (right - left) * 300 == pytest.approx((bottom - top) * 700)


def test_a_long_picture_takes_no_more_memory_than_a_square_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    long = np.asarray(Image.fromarray(make_phantom(2, nodule=True).image).resize((1600, 200)))
    whole = cut_out(long, WHOLE, 64, "kept").grey.astype(int)
    monkeypatch.setattr(crop, "MAX_SQUARE_PX", 800)
    limited = cut_out(long, WHOLE, 64, "kept").grey.astype(int)
    assert 0 < np.abs(limited - whole).mean() < 1
    assert whole[28:36].mean() > 20


def test_the_artefact_carries_the_ratio(tmp_path: Path) -> None:
    png = encode(Image.fromarray(picture("wide, in the middle")), "PNG")
    settings = Preprocessing(image_size_px=SIDE_PX, crop_aspect="kept")
    folder = save_small_model(tmp_path, preprocessing=settings)
    network = folder / "artifacts" / "network"
    assert json.loads((network / "card.json").read_text())["preprocessing"]["crop_aspect"] == "kept"
    card = Card.read(network)
    assert card.preprocessing == settings
    answer = mlflow.pyfunc.load_model(str(folder)).predict(pd.DataFrame({"image": [png]}))
    given = {}
    for aspect in ("kept", "stretched"):
        pixels = scan_pixels(png, Preprocessing(image_size_px=SIDE_PX, crop_aspect=aspect))
        features = feature_vectors(Runtime(network / NETWORK, card.precision)(pixels[np.newaxis]))
        logits = Head.read(network).logits(features)
        given[aspect] = decision.probabilities(logits, card.temperature)[0, 0]
    assert answer["p_adenocarcinoma"][0] == pytest.approx(given["kept"], abs=1e-6)
    assert abs(given["kept"] - given["stretched"]) > 0.01


def test_a_card_that_does_not_say_it_is_of_a_stretched_model(tmp_path: Path) -> None:
    network = save_small_model(tmp_path) / "artifacts" / "network"
    fields = json.loads((network / "card.json").read_text())
    del fields["preprocessing"]["crop_aspect"]
    (network / "card.json").write_text(json.dumps(fields))
    assert Card.read(network).preprocessing.crop_aspect == "stretched"
