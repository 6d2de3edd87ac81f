"""Draw the anatomy of an axial chest slice.

Sizes, in mm, follow adult anatomy in round numbers; HU values are those of textbooks (air -1000,
lung -860, fat -100, muscle 50, marrow 200, cortex 750).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from scans.phantom.canvas import MARGIN_PX, SUPERSAMPLING, Canvas, Ellipse

FAT_HU, MUSCLE_HU, TABLE_HU = -100, 50, -350


@dataclass(frozen=True)
class Body:
    """The drawn numbers of one person and one slice; see `draw_body`.

    Attributes:
        half_width, half_depth: of the skin's outline, mm.
        fat: thickness under the skin, mm.
        level: 0 at the aortic arch, 1 at the lower heart.
        contrast_hu: what contrast agent adds to blood.
        chest: inner outline of the rib cage.
        spine_y: centre of the vertebral body, mm.
    """

    half_width: float
    half_depth: float
    fat: float
    level: float
    contrast_hu: float
    chest: Ellipse
    spine_y: float


def random_body(rng: np.random.Generator) -> Body:
    """Draw a person and the height of the slice."""
    half_width = rng.uniform(158, 188)
    half_depth = half_width * rng.uniform(0.62, 0.72)
    fat = rng.uniform(6, 24)
    wall = rng.uniform(17, 24)
    chest = Ellipse(
        0, -0.03 * half_depth, half_width - fat - 1.4 * wall, half_depth - 0.6 * fat - wall
    )
    contrast_hu = float(rng.choice([0.0, rng.uniform(80, 220)]))
    spine_y = chest.y + chest.ry - rng.uniform(19, 27)
    return Body(half_width, half_depth, fat, rng.uniform(0, 1), contrast_hu, chest, spine_y)


def draw_body(canvas: Canvas, body: Body, rng: np.random.Generator) -> Image.Image:
    """Draw everything but the lungs' vessels and return the lungs' mask (mode L, 0 or 255)."""
    table_y = body.half_depth + rng.uniform(2, 8)
    for depth in (0.0, rng.uniform(12, 20)):
        x = np.linspace(-260, 260, 60)
        y = table_y + depth - (x / 260) ** 2 * rng.uniform(18, 30)
        canvas.fill(np.concatenate([np.c_[x, y], np.c_[x, y + 2.5][::-1]]), TABLE_HU)
    skin = Ellipse(0, 0, body.half_width, body.half_depth)
    power = rng.uniform(2.2, 2.7)
    canvas.fill(skin.outline(power), MUSCLE_HU)
    canvas.fill(skin._replace(rx=skin.rx - 2, ry=skin.ry - 2).outline(power), FAT_HU)
    if rng.random() < 0.4:  # breast tissue at the front
        for side in (-1, 1):
            breast = Ellipse(
                side * 0.46 * skin.rx,
                -0.5 * skin.ry,
                0.42 * skin.rx,
                rng.uniform(0.6, 0.74) * skin.ry,
            )
            canvas.fill(breast.outline(), MUSCLE_HU)
            canvas.fill(breast._replace(rx=breast.rx - 2, ry=breast.ry - 2).outline(), FAT_HU)
    muscle = skin._replace(rx=skin.rx - body.fat, ry=skin.ry - 0.6 * body.fat)
    canvas.fill(muscle.outline(power), MUSCLE_HU)
    _draw_wall_fat(canvas, body)
    lungs = _draw_lungs(canvas, body, rng)
    _draw_mediastinum(canvas, body, rng)
    _draw_skeleton(canvas, body, rng)
    return lungs


def _draw_wall_fat(canvas: Canvas, body: Body) -> None:
    """Draw the thin fat planes between the muscles of the back and the rib cage."""
    for side in (-1, 1):
        for factor in (1.13, 1.22):
            ring = body.chest.scaled(factor).outline()
            part = ring[(side * ring[:, 0] > 0.45 * body.chest.rx) & (ring[:, 1] > -20)]
            ordered = part[np.argsort(part[:, 1])]
            ImageDraw.Draw(canvas.hu).line(
                canvas.to_px(ordered), fill=FAT_HU, width=max(1, round(3 * canvas.px_per_mm))
            )


def _draw_lungs(canvas: Canvas, body: Body, rng: np.random.Generator) -> Image.Image:
    """Draw the lungs' tissue and return their mask."""
    mask = canvas.stencil()
    draw = ImageDraw.Draw(mask)
    draw.polygon(canvas.to_px(body.chest.outline(rng.uniform(2.1, 2.5))), fill=255)
    for outline in _mediastinum_outlines(body, rng):
        draw.polygon(canvas.to_px(outline), fill=0)
    if body.level > 0.85 and rng.random() < 0.6:  # the dome of the liver
        size = rng.uniform(15, 45)
        dome = Ellipse(-0.52 * body.chest.rx, rng.uniform(-5, 15), size * 1.1, size)
        draw.polygon(canvas.to_px(dome.outline()), fill=0)
    y_px = np.arange(canvas.size[1]) / SUPERSAMPLING - MARGIN_PX - canvas.centre_px[1]
    y_mm = y_px * canvas.mm_per_px
    # Gravity: dependent lung, at the back, is denser.
    tissue_hu = rng.uniform(-890, -830) + rng.uniform(0.1, 0.5) * y_mm
    rows = np.repeat(tissue_hu[:, None], canvas.size[0], axis=1).astype(np.float32)
    canvas.hu.paste(Image.fromarray(rows), mask=mask)
    return mask


def _mediastinum_outlines(body: Body, rng: np.random.Generator) -> list[NDArray[np.float64]]:
    """Return the outlines of what lies between the lungs."""
    chest, level = body.chest, body.level
    front, back = chest.y - chest.ry, chest.y + chest.ry
    y = np.linspace(front - 5, back + 5, 40)
    middle = chest.y - 0.05 * chest.ry
    width = rng.uniform(4, 9) + rng.uniform(17, 25) * np.exp(
        -(((y - middle) / (0.42 * chest.ry)) ** 2)
    )
    strip = np.concatenate([np.c_[-width, y], np.c_[width * 1.1, y][::-1]])
    spine = Ellipse(0, body.spine_y, rng.uniform(25, 30), rng.uniform(23, 28))
    outlines = [strip, spine.outline()]
    if level > 0.35:
        outlines.append(_heart(body).outline(2.2))
    outlines.append(_descending_aorta(body).scaled(1.15).outline())
    return outlines


def _heart(body: Body) -> Ellipse:
    size = 34 + 26 * body.level
    return Ellipse(
        8 + 12 * body.level, body.chest.y - 0.2 * body.chest.ry, 1.18 * size, 0.95 * size, 0.5
    )


def _descending_aorta(body: Body) -> Ellipse:
    return Ellipse(23, body.spine_y - 22, 12.5, 12.5)


def _draw_mediastinum(canvas: Canvas, body: Body, rng: np.random.Generator) -> None:
    """Draw heart, great vessels, gullet and airways."""
    blood_hu = 45 + body.contrast_hu
    y0 = body.chest.y
    canvas.fill(_descending_aorta(body).outline(), blood_hu)
    canvas.fill(Ellipse(2, body.spine_y - 36, 6, 5).outline(), 35)  # oesophagus
    if body.level > 0.55:
        heart = _heart(body)
        canvas.fill(heart.scaled(0.96).outline(2.2), 45)
        left = Ellipse(heart.x + 0.3 * heart.rx, heart.y + 3, 0.42 * heart.rx, 0.55 * heart.ry, 0.5)
        right = Ellipse(
            heart.x - 0.45 * heart.rx, heart.y - 6, 0.38 * heart.rx, 0.6 * heart.ry, 0.3
        )
        canvas.fill(left.outline(), 45 + 0.8 * body.contrast_hu)
        canvas.fill(right.outline(), 45 + 0.6 * body.contrast_hu)
    else:
        canvas.fill(Ellipse(-9, y0 - 22, 16, 16).outline(), blood_hu)  # ascending aorta
        canvas.fill(Ellipse(-26, y0 - 14, 9, 10).outline(), blood_hu)  # superior vena cava
        canvas.fill(Ellipse(17, y0 - 18, 13, 18, 0.5).outline(), blood_hu)  # pulmonary trunk
    airways = (
        [Ellipse(-2, y0 + 8, rng.uniform(8, 10), rng.uniform(8, 10))]
        if body.level < 0.3
        else [Ellipse(-17, y0 + 14, 8, 6, 0.4), Ellipse(17, y0 + 15, 8, 6, -0.4)]
    )
    for airway in airways if body.level < 0.75 else []:
        canvas.fill(airway.scaled(1.25).outline(), 20)
        canvas.fill(airway.outline(), -980)


def _draw_skeleton(canvas: Canvas, body: Body, rng: np.random.Generator) -> None:
    """Draw vertebra, breastbone, ribs and shoulder blades."""
    y = body.spine_y
    canvas.bone(Ellipse(0, y + 26, 4, rng.uniform(13, 20)))  # spinous process
    for side in (-1, 1):
        canvas.bone(Ellipse(side * 22, y + 16, 16, 4.5, side * 0.45))  # transverse process
    canvas.bone(Ellipse(0, y + 16, 12, 10))  # vertebral arch
    canvas.bone(Ellipse(0, y, rng.uniform(16, 20), rng.uniform(13, 16)))
    canvas.fill(Ellipse(0, y + 17, 8, 7).outline(), 30)  # spinal canal
    canvas.bone(Ellipse(0, body.chest.y - body.chest.ry - 6, rng.uniform(18, 26), 5.5))  # sternum
    middle = body.chest._replace(rx=body.chest.rx + 6, ry=body.chest.ry + 6)
    for side in (-1, 1):
        angle = -1.05 + rng.uniform(0, 0.25)
        while angle < 1.2:
            half_length = rng.uniform(9, 17)
            x = side * middle.rx * np.cos(angle)
            tangent = np.arctan2(middle.ry * np.cos(angle), -side * middle.rx * np.sin(angle))
            rib = Ellipse(x, middle.y + middle.ry * np.sin(angle), half_length, 4, tangent)
            canvas.bone(rib)
            angle += (2 * half_length + rng.uniform(10, 24)) / middle.rx
        if body.level < 0.55:
            blade = body.half_width - body.fat
            canvas.bone(
                Ellipse(side * 0.72 * blade, 0.5 * body.half_depth, 34, 4, side * -0.75), 2.0
            )
