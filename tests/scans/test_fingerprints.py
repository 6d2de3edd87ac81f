from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from scans.fingerprints import near_duplicate_groups, perceptual_hash, sha256_hex
from scans.phantom.drawing import make_phantom


def distance_bits(a: bytes, b: bytes) -> int:
    return (int.from_bytes(a) ^ int.from_bytes(b)).bit_count()


def slice_of(seed: int) -> NDArray[np.uint8]:
    return make_phantom(seed, nodule=False, image_size_px=(320, 240)).image


def test_sha256_is_the_standard_one() -> None:
    # FIPS 180-2, appendix B.1
    assert sha256_hex(b"abc").startswith("ba7816bf8f01cfea414140de5dae2223")


def test_hash_has_256_bits_about_half_of_them_set() -> None:
    code = perceptual_hash(slice_of(0))
    assert len(code) == 32
    assert 118 <= int.from_bytes(code).bit_count() <= 138


@pytest.mark.parametrize("seed", range(4))
def test_a_resaved_marked_or_resized_slice_is_a_near_duplicate(seed: int) -> None:
    pixels = slice_of(seed)
    jpeg = io.BytesIO()
    Image.fromarray(pixels).save(jpeg, "JPEG", quality=60)
    resaved = np.asarray(Image.open(jpeg))
    marked = pixels.copy()
    marked[20:120, 250:252] = 255
    resized = np.asarray(Image.fromarray(pixels).resize((224, 224), Image.Resampling.BILINEAR))
    for variant in (resaved, marked, resized):
        assert distance_bits(perceptual_hash(pixels), perceptual_hash(variant)) <= 40


def test_slices_of_different_people_are_no_near_duplicates() -> None:
    codes = [perceptual_hash(slice_of(seed)) for seed in range(12)]
    assert len(set(near_duplicate_groups(codes, 40))) == len(codes)


def test_grey_and_rgb_of_one_picture_have_one_hash() -> None:
    grey = slice_of(0)
    assert perceptual_hash(grey) == perceptual_hash(np.stack([grey] * 3, axis=-1))


def code_of(*bits: int) -> bytes:
    return sum(1 << bit for bit in bits).to_bytes(32)


def test_groups_are_chained_and_distances_at_the_limit_join() -> None:
    codes = [code_of(), code_of(1, 2), code_of(1, 2, 200, 201), code_of(*range(100, 140))]
    a, b, c, far = near_duplicate_groups(codes, 2)
    assert a == b == c != far
    assert len(set(near_duplicate_groups(codes, 1))) == 4
    assert len(set(near_duplicate_groups(codes, 256))) == 1


def test_groups_equal_those_of_every_pair_compared() -> None:
    rng = np.random.default_rng(5)
    centres = rng.integers(0, 256, (20, 32), dtype=np.uint8)
    codes = []
    for _ in range(700):  # several blocks of rows
        bits = np.unpackbits(centres[rng.integers(20)])
        bits[rng.choice(256, rng.integers(0, 12), replace=False)] ^= 1
        codes.append(np.packbits(bits).tobytes())
    groups = near_duplicate_groups(codes, 12)
    for _ in range(3000):
        i, j = rng.integers(0, len(codes), 2)
        if distance_bits(codes[i], codes[j]) <= 12:
            assert groups[i] == groups[j]
    members = {group: [c for c, g in zip(codes, groups, strict=True) if g == group]
               for group in set(groups)}  # fmt: skip
    for own in members.values():  # and nobody is joined without a close neighbour
        if len(own) > 1:
            assert all(sorted(distance_bits(c, other) for other in own)[1] <= 12 for c in own)


def test_no_hashes_no_groups() -> None:
    assert near_duplicate_groups([], 40) == []
