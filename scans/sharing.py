"""What the sources of a data set have in common, and what only one of them has."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scans.classes import quoted
from scans.manifest import ManifestRow


@dataclass(frozen=True)
class Sharing:
    """What two sources share.

    Attributes:
        images: images that lie byte for byte in several sources.
        groups: groups with scans of several sources, by name.
        only_in: the source of each class that no other source has.
    """

    images: int
    groups: list[str]
    only_in: dict[str, str]


def sharing(rows: Sequence[ManifestRow], sources_of_images: Iterable[set[str | None]]) -> Sharing:
    """Compare the sources of a data set.

    Args:
        rows: the manifest.
        sources_of_images: for each distinct image, the sources that have it.
    """
    by_group, by_label = defaultdict(set), defaultdict(set)
    for row in rows:
        by_group[row.group].add(row.source)
        by_label[row.label].add(row.source)
    images = 0
    for row, found in zip(rows, sources_of_images, strict=True):
        images += len(found) > 1
        by_group[row.group] |= found
        by_label[row.label] |= found
    several = len(set().union(*by_label.values())) > 1
    return Sharing(
        images=images,
        groups=sorted(group for group, found in by_group.items() if len(found) > 1),
        only_in={
            label: str(next(iter(found)))
            for label, found in sorted(by_label.items())
            if several and len(found) == 1
        },
    )


def sharing_warnings(shared: Sharing) -> list[str]:
    """Say in plain words what a reader should know before trusting a model of these sources."""
    warnings = [
        f"Only the source '{source}' has scans of the class '{label}'. A model can learn to tell "
        "this class by its source instead of by the disease; expect lower scores elsewhere."
        for label, source in shared.only_in.items()
    ]
    if shared.groups:
        warnings.append(
            f"{shared.images} images lie in several sources, and {len(shared.groups)} groups hold "
            f"scans of several sources: {quoted(shared.groups)}. Each group is in one split."
        )
    return warnings
