"""Feature maps to the feature vector that the head sees."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def feature_vectors(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average each channel over the map (global average pooling; Lin et al. 2014, section 3.2).

    Args:
        maps: (n, height, width, channels).

    Returns:
        (n, channels).
    """
    vectors: NDArray[np.float32] = maps.mean(axis=(1, 2), dtype=np.float32)
    return vectors


def feature_count(map_shape: tuple[int, ...]) -> int:
    """Return the length of the vector that maps of this shape (height, width, channels) give."""
    return map_shape[-1]
