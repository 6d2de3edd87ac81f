"""Notice that a source's train, valid and test folders name their classes differently."""

from __future__ import annotations

import glob
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from scans.classes import ClassPattern, Placed, quoted
from scans.splits import SPLITS


def classes_by_split(placed: Iterable[Placed]) -> dict[str, set[str]]:
    """Return the classes of each of the source's own splits."""
    found: dict[str, set[str]] = defaultdict(set)
    for place in placed:
        if place.split and place.label:
            found[place.split].add(place.label)
    return dict(found)


def differing_names(
    by_split: Mapping[str, set[str]], patterns: Sequence[ClassPattern]
) -> str | None:
    """Return a sentence on splits whose classes have different names, None where they agree.

    Args:
        by_split: classes of each split.
        patterns: that the classes were named by; the line that is suggested contains them.
    """
    everywhere = set.intersection(*by_split.values()) if by_split else set()
    lists = [
        f"{split} has {quoted(labels - everywhere)}"
        for split, labels in sorted(by_split.items(), key=lambda item: SPLITS.index(item[0]))
        if labels - everywhere
    ]
    if not lists:
        return None
    line = _fitting_patterns(set().union(*by_split.values()), patterns)
    advice = (
        f" Set class_patterns: {line}" if line else " Rename the folders or set class_patterns."
    )
    return f"The source's splits name their classes differently: {'; '.join(lists)}.{advice}"


def _fitting_patterns(names: Collection[str], patterns: Sequence[ClassPattern]) -> str:
    """Return the class_patterns that merge names which begin with another name, '' without any.

    The well-known four-class set has `adenocarcinoma` in one split and
    `adenocarcinoma_left.lower.lobe_T2_N0_M0_Ib` in the others.
    """
    short = [
        name
        for name in sorted(names)
        if any(_continues(other, name) for other in names)
        and not any(_continues(name, other) for other in names)
        and ";" not in name
    ]
    found = [f"{glob.escape(name)}*={name}" for name in short]
    return ";".join([*(f"{p.glob}={p.label}" for p in patterns), *found]) if found else ""


def _continues(name: str, start: str) -> bool:
    """Return whether a name is another one and more, as in `a_T2` and `a`."""
    longer = len(name) > len(start) and name.casefold().startswith(start.casefold())
    return longer and not name[len(start)].isalnum()
