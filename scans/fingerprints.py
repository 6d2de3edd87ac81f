"""Fingerprints of scans: exact (SHA-256) and perceptual (DCT hash), and groups of near-duplicates.

The perceptual hash is pHash (C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash
Functions", 2010) with 16 x 16 instead of 8 x 8 coefficients: chest slices all have the same coarse
layout (dark lungs in a bright body), which 64 bits hardly tell apart and 256 bits do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

HASH_SIDE = 16  # coefficients per axis; 16 * 16 = 256 bits = 32 bytes
HASH_BITS = HASH_SIDE * HASH_SIDE
IMAGE_SIDE_PX = 64  # the image is averaged to this; 4 x the coefficients kept, as pHash has it
BLOCK_ROWS = 256  # rows compared at once: 256 x 10,000 distances of 8 bytes are 20 MB


def sha256_hex(data: bytes) -> str:
    """Return the SHA-256 of some bytes as 64 lowercase hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def perceptual_hash(image: NDArray[np.uint8]) -> bytes:
    """Return the 256-bit perceptual hash of an image.

    Args:
        image: uint8 of shape (height, width, 3) RGB or (height, width) grey, 0-255.

    Returns:
        32 bytes: which of the 16 x 16 lowest DCT-II coefficients exceed their median.
    """
    grey = Image.fromarray(image).convert("L")
    small = grey.resize((IMAGE_SIDE_PX, IMAGE_SIDE_PX), Image.Resampling.BOX)
    coefficients = dctn(np.asarray(small, dtype=np.float64))[:HASH_SIDE, :HASH_SIDE]
    return np.packbits(coefficients > np.median(coefficients)).tobytes()


def near_duplicate_groups(hashes: Sequence[bytes], distance_bits: int) -> list[int]:
    """Join images whose hashes are close, directly or through other images.

    Args:
        hashes: 32 bytes per image.
        distance_bits: the largest Hamming distance of two hashes that are joined.

    Returns:
        One group number per image, in order; images of one connected component share it.
    """
    if not hashes:
        return []
    packed = np.frombuffer(b"".join(hashes), dtype=np.uint64).reshape(len(hashes), -1)
    group = np.arange(len(packed))
    for start in range(0, len(packed), BLOCK_ROWS):
        rows, columns = _close_pairs(packed, start, distance_bits)
        # Merging block by block keeps memory small even where every image resembles every other.
        links = coo_array(
            (np.ones(len(rows), dtype=bool), (group[rows], group[columns])),
            shape=(len(packed), len(packed)),
        )
        group = connected_components(links, directed=False)[1][group]
    return [int(number) for number in group]


def _close_pairs(
    packed: NDArray[np.uint64], start: int, distance_bits: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the pairs (i < j) of close hashes, of shape (n, 4), whose i is in the block."""
    block, rest = packed[start : start + BLOCK_ROWS], packed[start:]
    distances = np.zeros((len(block), len(rest)), dtype=np.uint16)
    for word in range(packed.shape[1]):
        distances += np.bitwise_count(block[:, None, word] ^ rest[None, :, word])
    rows, columns = np.nonzero(np.triu(distances <= distance_bits, k=1))
    return rows + start, columns + start
