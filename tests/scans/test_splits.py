from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from scans.errors import SourceError
from scans.splits import SPLITS, Fractions, keep_official_splits, split_by_group

SHARES = Fractions(0.7, 0.1, 0.2).of()


def made(seed: int, sizes: dict[str, list[int]]) -> tuple[list[str], list[str]]:
    groups, labels = [], []
    for label, own in sizes.items():
        for number, size in enumerate(own):
            groups += [f"{label}{number}"] * size
            labels += [label] * size
    order = np.random.default_rng(seed).permutation(len(groups))
    return [groups[i] for i in order], [labels[i] for i in order]


@pytest.mark.parametrize("seed", range(5))
def test_each_class_comes_close_to_its_shares(seed: int) -> None:
    sizes = {"a": [1] * 150 + [4] * 10 + [13], "b": [1] * 15 + [2, 2, 3, 9]}
    groups, labels = made(seed, sizes)
    split_of = split_by_group(groups, labels, SHARES, seed)
    assert set(split_of) == set(groups)
    for label, own in sizes.items():
        counts = Counter(split_of[g] for g, of in zip(groups, labels, strict=True) if of == label)
        for split, share in SHARES.items():
            assert abs(counts[split] - share * sum(own)) <= 1


def test_the_seed_decides_and_the_order_of_files_does_not() -> None:
    sizes = {"a": [1] * 60, "b": [1] * 40}
    splits = [split_by_group(*made(order, sizes), SHARES, seed=3) for order in range(3)]
    assert splits[0] == splits[1] == splits[2]
    assert split_by_group(*made(0, sizes), SHARES, seed=4) != splits[0]


@pytest.mark.parametrize("sizes", [[50, 1, 1], [1, 1, 1], [9, 9, 9], [100, 50, 1]])
def test_few_groups_still_reach_every_split(sizes: list[int]) -> None:
    groups, labels = made(0, {"a": sizes, "b": [1] * 10})
    split_of = split_by_group(groups, labels, SHARES, 0)
    assert {split_of[f"a{i}"] for i in range(3)} == set(SPLITS)


def test_too_few_groups_is_an_error() -> None:
    groups, labels = made(0, {"a": [20, 30], "b": [1] * 10})
    with pytest.raises(SourceError, match=r"at least 3 groups .* in class 'a'.*Received: 2"):
        split_by_group(groups, labels, SHARES, 0)


def test_a_group_of_two_classes_goes_to_one_split() -> None:
    groups, labels = made(0, {"a": [1] * 10, "b": [1] * 10})
    split_of = split_by_group([*groups, "both", "both"], [*labels, "a", "b"], SHARES, 0)
    assert split_of["both"] in SPLITS


@pytest.mark.parametrize(
    "fractions", [(0.7, 0.1, 0.3), (1.0, 0.0, 0.0), (1.2, -0.4, 0.2), (float("nan"), 0.5, 0.5)]
)
def test_fractions_that_are_none(fractions: tuple[float, float, float]) -> None:
    with pytest.raises(SourceError, match=r"that sum to 1\. Received"):
        Fractions(*fractions)


def test_official_splits_are_kept_and_crossing_groups_go_to_the_training_side() -> None:
    groups = ["1", "2", "3", "4", "5", "6", "7", "7", "8", "8"]
    labels = ["a", "a", "a", "b", "b", "b", "a", "a", "b", "b"]
    official = ["train", "validation", "test"] * 2 + ["test", "train", "test", "validation"]
    split_of, crossing = keep_official_splits(groups, labels, official, Fractions(), 0)
    assert [split_of[str(i)] for i in range(1, 7)] == official[:6]
    assert (split_of["7"], split_of["8"]) == ("train", "validation")
    assert crossing == ["7", "8"]


def test_a_missing_split_is_taken_from_training() -> None:
    groups, labels = made(0, {"a": [1] * 50, "b": [1] * 50})
    official = ["test" if int(group[1:]) < 10 else "train" for group in groups]
    split_of, crossing = keep_official_splits(groups, labels, official, Fractions(), 0)
    assert Counter(split_of.values()) == {"train": 72, "validation": 8, "test": 20}
    assert crossing == []
    assert all((split_of[g] == "test") == (o == "test") for g, o in zip(groups, official,
                                                                        strict=True))  # fmt: skip


def test_no_training_split_is_an_error() -> None:
    with pytest.raises(SourceError, match=r"Expected a train folder beside test.*resplit: true"):
        keep_official_splits(["1", "2"], ["a", "b"], ["test", "test"], Fractions(), 0)


def test_a_class_lost_from_a_split_is_an_error() -> None:
    groups, labels = ["1", "1", "2", "3", "4", "5"], ["a", "a", "a", "b", "b", "b"]
    official = ["train", "test", "validation", "train", "validation", "test"]
    with pytest.raises(SourceError, match=r"no scan of class 'a' in test.*resplit: true"):
        keep_official_splits(groups, labels, official, Fractions(), 0)


def test_a_class_found_in_patients_of_another_class_alone_reaches_every_split() -> None:
    """Each diseased patient has more healthy slices than diseased ones."""
    groups, labels = [], []
    for number in range(20):
        groups += [f"p{number}"] * 12
        labels += (["sick"] * 3 + ["well"] * 9) if number % 2 else ["well"] * 12
    split_of = split_by_group(groups, labels, SHARES, 0)
    sick = Counter(split_of[f"p{number}"] for number in range(1, 20, 2))
    assert sick == {"train": 7, "validation": 1, "test": 2}
