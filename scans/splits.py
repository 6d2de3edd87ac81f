"""Split scans into train, validation and test so that no near-duplicate group is divided."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scans.errors import SourceError

SPLITS = ("train", "validation", "test")  # also the order of who keeps a group found in two


@dataclass(frozen=True)
class Fractions:
    """The share of each class's scans that each split is to get."""

    train: float = 0.7
    validation: float = 0.1
    test: float = 0.2

    def __post_init__(self) -> None:
        """Refuse shares that are no shares."""
        shares = self.of()
        if min(shares.values()) <= 0 or not math.isclose(sum(shares.values()), 1, abs_tol=1e-6):
            raise SourceError(
                "Expected train_fraction, validation_fraction and test_fraction above 0 that sum "
                f"to 1. Received: {self.train}, {self.validation}, {self.test}"
            )

    def of(self) -> dict[str, float]:
        """Return the share of each split by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}


def split_by_group(
    groups: Sequence[str], labels: Sequence[str], shares: Mapping[str, float], seed: int
) -> dict[str, str]:
    """Assign whole groups to splits so that each class comes close to its shares in each.

    Within a class, groups are dealt out largest first, those of one size in a random order, each
    to the split that lacks most of what it is due. A group of several classes, as that of a
    patient with a nodule in a few slices, counts as the class that has the fewest scans of all.

    Args:
        groups: group of each scan.
        labels: class of each scan.
        shares: the splits and their shares, which sum to 1.
        seed: of the random order.

    Returns:
        The split of each group.

    Raises:
        SourceError: a class has fewer groups than there are splits.
    """
    members: dict[str, Counter[str]] = defaultdict(Counter)
    for group, label in zip(groups, labels, strict=True):
        members[group][label] += 1
    totals = Counter(labels)
    of_label: dict[str, list[str]] = defaultdict(list)
    for group in sorted(members):
        of_label[min(sorted(members[group]), key=totals.__getitem__)].append(group)
    rng = np.random.default_rng(seed)
    split_of: dict[str, str] = {}
    for label in sorted(set(labels)):
        own = of_label[label]
        if len(own) < len(shares):
            raise SourceError(
                f"Expected at least {len(shares)} groups of distinct scans in class '{label}', one "
                f"for each of {', '.join(shares)}. Received: {len(own)}. Add scans of this class "
                "or lower group_distance_bits if scans that differ were joined."
            )
        sizes = {group: members[group].total() for group in own}
        shuffled = [own[i] for i in rng.permutation(len(own))]
        split_of |= _deal(sorted(shuffled, key=lambda g: -sizes[g]), sizes, shares)
    return split_of


def _deal(
    groups: Sequence[str], sizes: Mapping[str, int], shares: Mapping[str, float]
) -> dict[str, str]:
    """Give each group, in order, to the split that lacks most; no split is left without one."""
    total = sum(sizes[group] for group in groups)
    lacking = {split: share * total for split, share in shares.items()}
    empty = list(shares)
    split_of = {}
    for left, group in zip(range(len(groups), 0, -1), groups, strict=True):
        among = empty if left == len(empty) else list(shares)
        split = max(among, key=lacking.__getitem__)
        lacking[split] -= sizes[group]
        split_of[group] = split
        if split in empty:
            empty.remove(split)
    return split_of


def keep_official_splits(
    groups: Sequence[str],
    labels: Sequence[str],
    official: Sequence[str],
    fractions: Fractions,
    seed: int,
) -> tuple[dict[str, str], list[str]]:
    """Assign groups to the splits that the source's folders name.

    A group found in two splits is kept whole on the training side (train before validation
    before test). A split the source does not have is taken from the training groups, with its
    fraction of what is there.

    Args:
        groups: group of each scan.
        labels: class of each scan.
        official: split of each scan, one of SPLITS.
        fractions: shares for splits that are missing.
        seed: as for `split_by_group`.

    Returns:
        The split of each group, and the groups that were found in two.

    Raises:
        SourceError: a split has no scan of some class left.
    """
    found: dict[str, set[str]] = defaultdict(set)
    for group, split in zip(groups, official, strict=True):
        found[group].add(split)
    split_of = {group: min(where, key=SPLITS.index) for group, where in found.items()}
    missing = [split for split in SPLITS if split not in set(official)]
    if "train" in missing:
        raise SourceError(
            f"Expected a train folder beside {', '.join(sorted(set(official)))}. Add it, or set "
            "resplit: true to split all scans anew."
        )
    if missing:
        shares = {split: fractions.of()[split] for split in SPLITS if split in missing}
        shares = {"train": 1 - sum(shares.values()), **shares}
        inside = [i for i, group in enumerate(groups) if split_of[group] == "train"]
        split_of |= split_by_group(
            [groups[i] for i in inside], [labels[i] for i in inside], shares, seed
        )
    _check_every_class(groups, labels, split_of)
    return split_of, sorted(group for group, where in found.items() if len(where) > 1)


def _check_every_class(
    groups: Sequence[str], labels: Sequence[str], split_of: Mapping[str, str]
) -> None:
    present = {(label, split_of[group]) for group, label in zip(groups, labels, strict=True)}
    for split in SPLITS:
        for label in sorted(set(labels)):
            if (label, split) not in present:
                raise SourceError(
                    f"The source's own splits leave no scan of class '{label}' in {split}, once "
                    "scans found in two splits are kept on the training side. Set resplit: true "
                    "to split all scans anew."
                )
