"""Groups of scans that no split may divide: patients, joined with near-duplicates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from scans.fingerprints import near_duplicate_groups


def group_names(
    digests: Sequence[str],
    hashes: Sequence[bytes],
    distance_bits: int,
    identities: Iterable[Iterable[tuple[int, str | None]]] = (),
) -> list[str]:
    """Return each scan's group, named after its smallest digest so that names are stable.

    Scans are joined, directly or through others, when their perceptual hashes are close or when
    they share an identity.

    Args:
        digests: SHA-256 of each scan, hexadecimal.
        hashes: perceptual hash of each scan, 32 bytes.
        distance_bits: the largest Hamming distance of near-duplicates.
        identities: for each kind of identity (patient, study, series), places of scans and what
            each has; a scan may have several, and None, where unknown, joins nothing.
    """
    numbers = near_duplicate_groups(hashes, distance_bits)
    for identity in identities:
        numbers = _joined(numbers, identity)
    smallest: dict[int, str] = {}
    for number, digest in zip(numbers, digests, strict=True):
        smallest[number] = min(smallest.get(number, digest), digest)
    # The letter keeps readers of CSV from taking a name of digits for a number.
    return [f"g{smallest[number][:12]}" for number in numbers]


def _joined(numbers: Sequence[int], identity: Iterable[tuple[int, str | None]]) -> list[int]:
    """Join the groups of scans that share an identity."""
    first: dict[str, int] = {}
    pairs = [
        (numbers[place], first.setdefault(value, numbers[place]))
        for place, value in identity
        if value is not None
    ]
    if not pairs:
        return list(numbers)
    one, other = zip(*pairs, strict=True)
    size = max(numbers) + 1
    links = coo_array((np.ones(len(pairs), dtype=bool), (one, other)), shape=(size, size))
    component = connected_components(links, directed=False)[1]
    return [int(component[number]) for number in numbers]
