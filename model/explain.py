"""Show where in a scan the evidence for its label lies: class-activation maps.

The head is linear in the averaged root of the last feature map, so the map of a class (Zhou et al.
2016, "Learning Deep Features for Discriminative Localization", eq. 2) is the same sum before the
average: exact, and free of a second pass through the network.
"""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .artefact import Head
from .body import Box

HEATMAP_SIDE_PX = 224
FADE_SHARE = 1 / 7  # of the side of the box: a cell of the 7 x 7 feature map
COLOUR = (255, 96, 0)  # orange: stands out on grey, and is no class's colour


def evidence_maps(
    maps: NDArray[np.float32], head: Head, chosen: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Compute how much each place of a scan speaks for the chosen class.

    Args:
        maps: feature maps (n, height, width, channels), never negative.
        head: of the model that made them.
        chosen: class indices (n,).

    Returns:
        (n, height, width). The mean over a map is the logit of the chosen class less the mean
        logit of the other classes.
    """
    classes = head.bias.size
    contrast = (np.eye(classes) * classes - 1) / max(classes - 1, 1)  # own less mean of others
    kernel = head.kernel.astype(np.float64) @ contrast[:, chosen]
    bias = head.bias.astype(np.float64) @ contrast[:, chosen]
    result: NDArray[np.float64] = (
        np.einsum("nhwc,cn->nhw", np.sqrt(maps), kernel) + bias[:, np.newaxis, np.newaxis]
    )
    return result


def heatmap_png(evidence: NDArray[np.float64], box: Box) -> str:
    """Draw an evidence map as a picture to lay over the scan.

    Args:
        evidence: (height, width), see `evidence_maps`.
        box: what the network saw of the scan, see `model.preprocessing.Shown`.

    Returns:
        Base64 text of an RGBA PNG that covers the whole scan once it is stretched to the scan's
        size: one colour, opaque where the evidence is strongest, clear where there is none, where
        it speaks against the label, and outside of what the network saw. It fades out towards
        the edges of what the network saw, where a sharp edge would look like a finding.
    """
    picture = np.zeros((HEATMAP_SIDE_PX, HEATMAP_SIDE_PX, 4), dtype=np.uint8)
    picture[..., :3] = COLOUR
    opacity = whole_scan(evidence, box) * fade(box)
    picture[..., 3] = (opacity * 255).round().astype(np.uint8)
    png = io.BytesIO()
    Image.fromarray(picture).save(png, "PNG", optimize=True)
    return base64.b64encode(png.getvalue()).decode("ascii")


def fade(box: Box) -> NDArray[np.float64]:
    """Return a factor that falls to 0 at the edges of a box that lie inside the scan.

    Args:
        box: what the network saw of the scan.

    Returns:
        (HEATMAP_SIDE_PX, HEATMAP_SIDE_PX), 0-1; 1 outside of the box.
    """
    left, top, right, bottom = (round(edge * HEATMAP_SIDE_PX) for edge in box)
    return _laid(np.outer(_ramps(top, bottom), _ramps(left, right)), left, top, around=1.0)


def _ramps(start: int, stop: int) -> NDArray[np.float64]:
    length = stop - start
    inside = np.arange(length) + 0.5
    width = max(FADE_SHARE * length, 1.0)
    ramps = np.ones(length)
    if start > 0:
        ramps = np.minimum(ramps, inside / width)
    if stop < HEATMAP_SIDE_PX:
        ramps = np.minimum(ramps, inside[::-1] / width)
    return ramps


def whole_scan(evidence: NDArray[np.float64], box: Box) -> NDArray[np.float64]:
    """Spread an evidence map over the whole scan.

    Args:
        evidence: (height, width).
        box: what the network saw of the scan.

    Returns:
        (HEATMAP_SIDE_PX, HEATMAP_SIDE_PX), 0-1: evidence for the label as a share of the
        strongest in the scan; 0 where there is none, or it speaks against the label, or nothing
        was seen.
    """
    left, top, right, bottom = (round(edge * HEATMAP_SIDE_PX) for edge in box)
    smooth = Image.fromarray(evidence.astype(np.float32)).resize(
        (max(right - left, 1), max(bottom - top, 1)), Image.Resampling.BICUBIC
    )
    positive = _laid(np.asarray(smooth, dtype=np.float64).clip(min=0), left, top, around=0.0)
    return positive / max(float(positive.max()), 1e-12)


def _laid(values: NDArray[np.float64], left: int, top: int, around: float) -> NDArray[np.float64]:
    """Lay values over the scan; those beyond its edges fall off.

    Args:
        values: (height, width).
        left: column of the first value in the result, negative where it lies beyond the scan.
        top: its row.
        around: value of the rest.

    Returns:
        (HEATMAP_SIDE_PX, HEATMAP_SIDE_PX).
    """
    result = np.full((HEATMAP_SIDE_PX, HEATMAP_SIDE_PX), around)
    inside = values[max(-top, 0) :, max(-left, 0) :]
    place = result[max(top, 0) :, max(left, 0) :]
    height, width = np.minimum(inside.shape, place.shape)
    place[:height, :width] = inside[:height, :width]
    return result
