"""Feature maps to the feature vector that the head sees."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def feature_vectors(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average the square root of each channel over the map.

    Global average pooling (Lin et al. 2014, section 3.2) of the signed-square-root map that is
    usual for such features (Perronnin et al. 2010, section 3.2): it keeps one bright spot from
    drowning the rest. It is linear in the root map, so a class-activation map stays exact.

    Args:
        maps: (n, height, width, channels), never negative.

    Returns:
        (n, channels).
    """
    vectors: NDArray[np.float32] = np.sqrt(maps).mean(axis=(1, 2), dtype=np.float32)
    return vectors


def feature_count(map_shape: tuple[int, ...]) -> int:
    """Return the length of the vector that maps of this shape (height, width, channels) give."""
    return map_shape[-1]
