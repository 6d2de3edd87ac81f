"""Evidence maps add up to the logits, and their pictures lie where the evidence is."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from model.artefact import Head
from model.body import WHOLE
from model.explain import HEATMAP_SIDE_PX, evidence_maps, heatmap_png, whole_scan
from model.features import feature_vectors


@pytest.mark.parametrize("classes", [2, 4])
def test_evidence_averages_to_the_lead_of_the_label(classes: int) -> None:
    rng = np.random.default_rng(0)
    maps = rng.gamma(1, 1, (3, 7, 7, 16)).astype(np.float32)
    head = Head(
        rng.normal(size=(16, classes)).astype(np.float32),
        rng.normal(size=classes).astype(np.float32),
    )
    logits = head.logits(feature_vectors(maps))
    chosen = np.array([0, 1, 1])
    for evidence, row, label in zip(evidence_maps(maps, head, chosen), logits, chosen, strict=True):
        lead = row[label] - np.delete(row, label).mean()
        assert evidence.mean() == pytest.approx(lead, abs=1e-4)


def test_heatmap_is_opaque_only_where_evidence_is() -> None:
    evidence = np.full((7, 7), -1.0)
    evidence[1, 5] = 3.0
    png = base64.b64decode(heatmap_png(evidence, (0.1, 0.1, 0.9, 0.9)), validate=True)
    picture = Image.open(io.BytesIO(png))
    assert (picture.format, picture.mode) == ("PNG", "RGBA")
    opacity = np.asarray(picture)[..., 3]
    y, x = np.unravel_index(opacity.argmax(), opacity.shape)
    seen = 0.8 * HEATMAP_SIDE_PX
    assert (x, y) == pytest.approx(
        ((0.1 * HEATMAP_SIDE_PX) + seen * 5.5 / 7, (0.1 * HEATMAP_SIDE_PX) + seen * 1.5 / 7), abs=2
    )
    assert opacity.max() == 255
    margin = int(0.1 * HEATMAP_SIDE_PX) - 1
    assert not opacity[:margin].any() and not opacity[:, -margin:].any()
    assert not opacity[HEATMAP_SIDE_PX // 2 :].any()


def test_no_evidence_gives_a_clear_picture() -> None:
    assert whole_scan(np.full((7, 7), -0.5), WHOLE).max() == 0


def test_a_heatmap_fades_out_at_edges_inside_the_scan_only() -> None:
    box = (0.25, 0.5, 0.75, 1.0)
    picture = Image.open(io.BytesIO(base64.b64decode(heatmap_png(np.ones((7, 7)), box))))
    opacity = np.asarray(picture)[..., 3].astype(int)
    left, top, right = (round(edge * HEATMAP_SIDE_PX) for edge in box[:3])
    inside = opacity[top:, left:right]
    edges = np.concatenate([inside[0], inside[:, 0], inside[:, -1]])
    assert edges.max() < 0.25 * 255  # from one pixel to the next, no sharp step
    middle = inside.shape[1] // 2
    assert np.abs(np.diff(inside[:, middle])).max() < 0.25 * 255
    assert inside[-1, middle] == 255  # the scan ends there: no edge to be seen
    assert opacity[: top - 1].max() == opacity[:, : left - 1].max() == 0


def test_what_the_network_saw_beyond_the_scan_falls_off_its_heatmap() -> None:
    evidence = np.full((7, 7), -1.0)
    evidence[2, 5] = 3.0  # in the scan
    evidence[0, 1] = 9.0  # beyond its upper edge
    box = (0.1, -0.5, 0.9, 1.5)
    heat = whole_scan(evidence, box)
    y, x = np.unravel_index(heat.argmax(), heat.shape)
    assert ((x + 0.5) / HEATMAP_SIDE_PX, (y + 0.5) / HEATMAP_SIDE_PX) == pytest.approx(
        (0.1 + 0.8 * 5.5 / 7, -0.5 + 2 * 2.5 / 7), abs=0.01
    )
    assert heat.max() == 1
    picture = Image.open(io.BytesIO(base64.b64decode(heatmap_png(np.ones((7, 7)), box))))
    opacity = np.asarray(picture)[..., 3]
    middle = HEATMAP_SIDE_PX // 2
    assert (opacity[:, middle] == 255).all()  # the scan ends there, above and below
    assert opacity[middle, round(0.1 * HEATMAP_SIDE_PX)] < 0.25 * 255
    assert not opacity[:, : round(0.1 * HEATMAP_SIDE_PX)].any()


def test_a_heatmap_lies_where_the_body_is() -> None:
    covered = whole_scan(np.ones((7, 7)), (0.25, 0.5, 0.75, 1.0)) > 0.5
    rows, columns = np.nonzero(covered)
    edges = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    assert (edges / HEATMAP_SIDE_PX).tolist() == pytest.approx([0.25, 0.5, 0.75, 1.0], abs=0.01)
