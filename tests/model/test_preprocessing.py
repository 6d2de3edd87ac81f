"""What differs between sources and not between diseases is gone from the network's pixels."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from model.contrast import AIR_LEVEL, TISSUE_LEVEL, fixed_medians, stretched_contrast
from model.decoding.scan_file import decode_grey
from model.preprocessing import Preprocessing, prepared_pixels, scan_pixels
from tests.model.test_images import GREY, GREY_PNG, LOSSY, encode, slice_pixels

SETTINGS = Preprocessing()
FIXED = Preprocessing(crop="fixed")


def test_pixels_are_square_rgb_of_equal_channels() -> None:
    pixels = scan_pixels(GREY_PNG, SETTINGS)
    assert pixels.shape == (224, 224, 3)
    assert pixels.dtype == np.uint8
    assert (pixels == pixels[..., :1]).all()
    assert (pixels.min(), pixels.max()) != (0, 255)
    stretched = scan_pixels(GREY_PNG, Preprocessing(contrast_kind="stretched"))
    assert (stretched.min(), stretched.max()) == (0, 255)
    assert scan_pixels(GREY_PNG, Preprocessing(image_size_px=32)).shape == (32, 32, 3)


def test_the_pixels_are_those_of_the_decoded_scan() -> None:
    for data in (GREY_PNG, LOSSY["jpeg"]):
        expected = prepared_pixels(decode_grey(data), SETTINGS)
        assert np.array_equal(scan_pixels(data, SETTINGS), expected)


def test_the_border_does_not_matter() -> None:
    framed = slice_pixels(200, 300)
    marked = framed.copy()
    marked[:12], marked[-12:], marked[:, :18], marked[:, -18:] = 255, 255, 255, 255
    difference = prepared_pixels(framed, FIXED).astype(int) - prepared_pixels(marked, FIXED)
    assert np.abs(difference).mean() < 1
    uncropped = Preprocessing(crop="fixed", crop_fraction=0.0)
    difference = prepared_pixels(framed, uncropped).astype(int) - prepared_pixels(marked, uncropped)
    assert np.abs(difference).mean() > 10


def test_the_field_of_view_does_not_matter() -> None:
    chest = slice_pixels(240, 320)
    for top, left, height, width in ((0, 0, 400, 400), (120, 60, 512, 512), (20, 10, 300, 700)):
        wide = np.zeros((height, width), np.uint8)
        wide[top : top + 240, left : left + 320] = chest
        difference = prepared_pixels(wide, SETTINGS).astype(int) - prepared_pixels(chest, SETTINGS)
        assert np.abs(difference).mean() < 6
        fixed = prepared_pixels(wide, FIXED).astype(int) - prepared_pixels(chest, FIXED)
        assert np.abs(fixed).mean() > 20


def test_brightness_and_contrast_do_not_matter() -> None:
    darker = (GREY * 0.6 + 10).astype(np.uint8)
    difference = prepared_pixels(GREY, SETTINGS).astype(int) - prepared_pixels(darker, SETTINGS)
    assert np.abs(difference).mean() < 2
    assert np.abs(difference).max() <= 8
    assert np.abs(GREY.astype(int) - darker).max() > 40


def test_coloured_marks_are_grey() -> None:
    colours = np.stack([GREY] * 3, axis=-1)
    colours[40:44] = (255, 0, 0)
    pixels = scan_pixels(encode(Image.fromarray(colours), "PNG"), SETTINGS)
    assert (pixels == pixels[..., :1]).all()


def test_a_picture_shrinks_with_antialiasing() -> None:
    stripes = np.zeros((1024, 1024), np.uint8)
    stripes[:, ::2] = 255
    stripes[:100] = 0
    stripes[-100:] = 255  # so that the stretch has something to hold on to
    settings = Preprocessing(crop="fixed", contrast_kind="stretched")
    pixels = prepared_pixels(stripes, settings)
    assert np.abs(pixels[60:160].astype(int) - 128).max() < 24


def test_medians_of_air_and_tissue_are_fixed_whatever_the_window() -> None:
    rng = np.random.default_rng(0)
    hounsfield = np.where(rng.random((200, 200)) < 0.4, -850.0, 40.0) + rng.normal(
        0, 40, (200, 200)
    )
    hounsfield[:20] = 700  # bone and contrast agent, which windows cut off differently
    shown = []
    for centre, width in ((-600, 1500), (-500, 1400), (-200, 2000)):
        window = ((hounsfield - centre) / width + 0.5).clip(0, 1)
        shown.append(fixed_medians((window * 255).round().astype(np.uint8)))
        lung, tissue = hounsfield < -400, (hounsfield > -400) & (hounsfield < 400)
        assert np.median(shown[-1][lung]) == pytest.approx(AIR_LEVEL, abs=1)
        assert np.median(shown[-1][tissue]) == pytest.approx(TISSUE_LEVEL, abs=8)
    assert np.abs(shown[0].astype(int) - shown[1]).mean() < 6


@pytest.mark.parametrize("level", [0, 77, 255])
def test_medians_of_a_blank_picture_give_a_blank_one(level: int) -> None:
    assert len(np.unique(fixed_medians(np.full((64, 64), level, np.uint8)))) == 1


def test_the_stretch_keeps_the_order_of_levels_and_the_input() -> None:
    dull = (GREY // 3 + 60).astype(np.uint8)
    kept = dull.copy()
    stretched = stretched_contrast(dull, 1.0)
    assert np.array_equal(dull, kept)
    assert (np.diff(stretched.ravel()[np.argsort(dull.ravel())].astype(int)) >= 0).all()


def test_a_few_extreme_pixels_do_not_set_the_contrast() -> None:
    dull = (GREY // 3 + 60).astype(np.uint8)
    marked = dull.copy()
    marked[:5, :10] = 255  # 0.4 % of the pixels
    difference = stretched_contrast(dull, 1.0).astype(int) - stretched_contrast(marked, 1.0)
    assert np.abs(difference[5:]).max() <= 8


@pytest.mark.parametrize("level", [0, 77, 255])
def test_a_blank_picture_gives_a_blank_picture(level: int) -> None:
    assert len(np.unique(prepared_pixels(np.full((64, 64), level, np.uint8), SETTINGS))) == 1
