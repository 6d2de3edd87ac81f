"""Fingerprints of scans: exact (SHA-256) and perceptual (DCT hash), and groups of near-duplicates.

The perceptual hash is pHash (C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash
Functions", 2010) with 16 x 16 instead of 8 x 8 coefficients: chest slices all have the same coarse
layout (dark lungs in a bright body), which 64 bits hardly tell apart and 256 bits do.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

HASH_SIDE = 16  # coefficients per axis; 16 * 16 = 256 bits = 32 bytes
HASH_BITS = HASH_SIDE * HASH_SIDE
IMAGE_SIDE_PX = 64  # the image is averaged to this; 4 x the coefficients kept, as pHash has it
BLOCK_PAIRS = 2**19  # compared at once by each thread: 4 MB of 64-bit words, about a core's cache
WAVE_BLOCKS = 16  # whose close pairs are joined before the next: all alike, they are 0.1 GB


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
    rows_at_once = max(1, BLOCK_PAIRS // len(packed))
    starts = range(0, len(packed), rows_at_once)
    compare = partial(_close_pairs, packed, rows=rows_at_once, distance_bits=distance_bits)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for wave in range(0, len(starts), WAVE_BLOCKS):
            found = list(pool.map(compare, starts[wave : wave + WAVE_BLOCKS]))
            rows, columns = (np.concatenate(indices) for indices in zip(*found, strict=True))
            # Joining wave by wave keeps memory small even where all images resemble each other.
            links = coo_array(
                (np.ones(len(rows), dtype=bool), (group[rows], group[columns])),
                shape=(len(packed), len(packed)),
            )
            group = connected_components(links, directed=False)[1][group]
    return [int(number) for number in group]


def _close_pairs(
    packed: NDArray[np.uint64], start: int, *, rows: int, distance_bits: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the pairs (i < j) of close hashes, of shape (n, 4), whose i is in a block of rows."""
    block, rest = packed[start : start + rows], packed[start:]
    distances = np.zeros((len(block), len(rest)), dtype=np.uint16)
    for word in range(packed.shape[1]):
        distances += np.bitwise_count(block[:, None, word] ^ rest[None, :, word])
    first, second = np.nonzero(distances <= distance_bits)
    upper = first < second
    return first[upper] + start, second[upper] + start
