"""The box around the body, on drawn chests of many kinds."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from model.body import WHOLE, body_box, connected_runs, opened, otsu_threshold

TISSUE, LUNG, FAT = 140, 20, 40
BODY = (100, 150, 400, 350)  # px of a 512 x 512 picture


def chest(
    body: tuple[int, int, int, int] = BODY, side: int = 512, tissue: int = TISSUE, air: int = 0
) -> Image.Image:
    """Draw an elliptic body with two lungs and a heart."""
    picture = Image.new("L", (side, side), air)
    draw = ImageDraw.Draw(picture)
    left, top, right, bottom = body
    width, height = right - left, bottom - top
    draw.ellipse(body, fill=tissue)
    for middle in (0.28, 0.72):
        x, y = left + middle * width, top + 0.48 * height
        edges = (x - 0.17 * width, y - 0.34 * height, x + 0.17 * width, y + 0.34 * height)
        draw.ellipse(edges, fill=air + LUNG)
    return picture


def grey(picture: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(picture)


def expected(body: tuple[int, int, int, int] = BODY, side: int = 512) -> list[float]:
    left, top, right, bottom = body
    across, down = 0.03 * (right - left), 0.03 * (bottom - top)
    edges = (left + across, top + down, right - across, bottom - down)
    return [edge / side for edge in edges]


def test_the_box_is_the_bodys_less_its_rim() -> None:
    assert body_box(grey(chest())) == pytest.approx(expected(), abs=0.012)


def test_a_table_cables_letters_and_noise_do_not_count() -> None:
    picture = chest()
    draw = ImageDraw.Draw(picture)
    draw.arc((20, 160, 480, 420), 20, 160, fill=200, width=6)  # a curved table under the back
    draw.line((0, 450, 511, 450), fill=255, width=5)
    draw.line((30, 20, 60, 500), fill=255, width=2)
    draw.text((5, 5), "R  2019-03-01  120 kV", fill=255)
    noisy = grey(picture) + np.random.default_rng(0).normal(0, 8, (512, 512))
    assert body_box(noisy.clip(0, 255).astype(np.uint8)) == pytest.approx(expected(), abs=0.02)


def test_arms_beside_the_chest_are_left_out() -> None:
    picture = chest((120, 150, 390, 350))
    draw = ImageDraw.Draw(picture)
    for left in (20, 425):
        draw.ellipse((left, 220, left + 60, 290), fill=TISSUE)
    assert body_box(grey(picture)) == pytest.approx(expected((120, 150, 390, 350)), abs=0.012)


@pytest.mark.parametrize("body", [(170, 190, 330, 310), (5, 60, 507, 450), (100, 40, 420, 360)])
def test_small_and_big_patients(body: tuple[int, int, int, int]) -> None:
    assert body_box(grey(chest(body))) == pytest.approx(expected(body), abs=0.015)


def test_a_thin_wall_belongs_to_the_body() -> None:
    picture = chest()
    draw = ImageDraw.Draw(picture)
    draw.ellipse((110, 158, 390, 342), fill=LUNG)  # two to three cells of ribs and skin
    draw.ellipse((220, 170, 300, 345), fill=TISSUE)
    assert body_box(grey(picture)) == pytest.approx(expected(), abs=0.012)


def test_a_picture_that_shows_a_part_of_the_body_is_taken_whole() -> None:
    part = grey(chest((-60, -40, 572, 552)))
    box = body_box(part)
    assert box == pytest.approx((0.03, 0.03, 0.97, 0.97), abs=0.012)


def test_dark_fat_of_a_narrow_window_belongs_to_the_body() -> None:
    picture = chest((60, 100, 450, 400), tissue=FAT)  # fat all around, breasts of it
    draw = ImageDraw.Draw(picture)
    draw.ellipse((230, 170, 320, 370), fill=230)  # heart and spine are all that is bright
    assert body_box(grey(picture)) == pytest.approx(expected((60, 100, 450, 400)), abs=0.012)


def test_grey_corners_outside_the_field_of_view() -> None:
    picture = chest(air=50)
    levels = grey(picture).copy()
    y, x = np.mgrid[:512, :512]
    levels[(x - 256) ** 2 + (y - 256) ** 2 > 256**2] = 0
    assert body_box(levels) == pytest.approx(expected(), abs=0.012)


@pytest.mark.parametrize(
    "levels",
    [
        np.zeros((64, 64), np.uint8),
        np.full((300, 200), 255, np.uint8),
        255 * np.eye(200, dtype=np.uint8),
        np.repeat(np.arange(256, dtype=np.uint8)[np.newaxis] // 255 * 255, 40, axis=0),
    ],
    ids=["black", "white", "line", "stripe"],
)
def test_what_holds_no_body_is_taken_whole(levels: NDArray[np.uint8]) -> None:
    assert body_box(levels) == WHOLE


def test_a_small_bright_spot_is_no_body() -> None:
    picture = Image.new("L", (512, 512), 0)
    ImageDraw.Draw(picture).ellipse((200, 200, 280, 280), fill=200)
    assert body_box(grey(picture)) == WHOLE


def test_another_size_and_another_format_have_the_same_box() -> None:
    picture = chest()
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=80)
    box = body_box(grey(picture))
    assert body_box(grey(Image.open(file))) == pytest.approx(box, abs=0.009)
    for side in (150, 300, 1024):
        assert body_box(grey(picture.resize((side, side)))) == pytest.approx(box, abs=0.012)


def test_otsus_threshold_divides_two_peaks_and_takes_one_level() -> None:
    histogram = np.zeros(256, int)
    histogram[[10, 12, 200, 210]] = 50
    assert 12 <= otsu_threshold(histogram) < 200
    only = np.zeros(256, int)
    only[77] = 5
    assert 0 <= otsu_threshold(only) <= 255


@pytest.mark.parametrize("density", [0.2, 0.45, 0.6, 0.8])
def test_pieces_are_those_of_scipy(density: float) -> None:
    mask = np.random.default_rng(1).random((60, 70)) < density
    runs, component = connected_runs(mask)
    theirs, count = ndimage.label(mask)
    assert len(np.unique(component)) == count
    ours = np.zeros(mask.shape, int)
    for (row, first, last), piece in zip(runs, component, strict=True):
        ours[row, first:last] = piece + 1
    pairs = {(int(a), int(b)) for a, b in zip(ours.ravel(), theirs.ravel(), strict=True)}
    assert len(pairs) == count + (not mask.all())


def test_the_opening_is_scipys_inside() -> None:
    mask = np.random.default_rng(2).random((60, 70)) < 0.9
    theirs = ndimage.binary_opening(np.pad(mask, 3, mode="edge"), np.ones((3, 3)))[3:-3, 3:-3]
    assert np.array_equal(opened(mask)[2:-2, 2:-2], theirs[2:-2, 2:-2])
    assert opened(mask).any() and not np.array_equal(opened(mask), mask)
