"""What a recipe is worth: directions, paired kernels, the zip itself. For benchmarks/recipe.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.recipe_heads import Fit, Served, Training, area, area_interval
from benchmarks.recipe_scans import DIRECTIONS, JUDGED, Scan, directions, kernel_pairs
from steps.evaluation.protocols import KeptScans, Recipe, grouped_score
from steps.metrics import balanced_accuracy
from steps.training.cross_validation import grouped_folds

Vectors = NDArray[np.float32]
Scores = list[NDArray[np.float64]]  # by direction, of the scans that it scores

SHUFFLES = 1  # into folds, within the zip
SENSITIVITY = 0.95  # that the threshold is to keep, as params.yaml has it
CLASSES = ("normal", "disease")


class Judge:
    """Knows which scans each direction trains on and which it scores."""

    def __init__(self, scans: Sequence[Scan]) -> None:
        """Find the collections' scans."""
        self.source = np.array([scan.source for scan in scans])
        self.sick = np.array([scan.label != "normal" for scan in scans]).astype(np.int64)
        self.groups = np.array([scan.group for scan in scans], dtype=np.int64)
        self.pairs = directions(scans)
        self._kernels = kernel_pairs(scans)
        self._zip = self.source == "zip"

    def counts(self) -> dict[str, dict[str, int]]:
        """Count scans and groups by source."""
        return {
            name: {
                "scans": int((self.source == name).sum()),
                "diseased": int(self.sick[self.source == name].sum()),
                "groups": len(np.unique(self.groups[self.source == name])),
            }
            for name in JUDGED
        }

    def training(
        self,
        places: NDArray[Any],
        own: Vectors,
        lent: Vectors | None = None,
        smoothed: Vectors | None = None,
    ) -> Training:
        """Gather what a head is trained on.

        Args:
            places: of the scans.
            own: features of all scans.
            lent: features of the same scans with borrowed grey levels, to train on as well.
            smoothed: features of the same scans, smoothed.
        """
        features, sick, source = own[places], self.sick[places], self.source[places]
        if lent is not None:
            features = np.concatenate([features, lent[places]])
            sick, source = np.tile(sick, 2), np.tile(source, 2)
        return Training(features, sick, source, None if smoothed is None else smoothed[places])

    def scores(self, fit: Fit, own: Vectors, **more: Any) -> tuple[Scores, list[float]]:
        """Score every direction's target.

        Returns:
            The targets' scores by direction, and by direction the share of kernel pairs whose
            label changes at the head's own middle.
        """
        scores, changes = [], []
        for train, target in self.pairs:
            weights, bias = fit(self.training(train, own, **more))
            score = own.astype(np.float64) @ weights + bias
            scores.append(score[target])
            changes.append(self.kernel_changes(score))
        return scores, changes

    def kernel_changes(self, score: NDArray[np.floating[Any]]) -> float:
        """Return the share of kernel pairs whose label changes, given the scores of all scans."""
        called = score[self._kernels] > 0
        return float((called[:, 0] != called[:, 1]).mean())

    def area_of(self, place: int, score: NDArray[np.floating[Any]]) -> dict[str, Any]:
        """Return the area and its interval of one direction, given the scores of all scans."""
        return self._area(place, score[self.pairs[place][1]].astype(np.float64))

    def _area(self, place: int, of_target: NDArray[np.float64]) -> dict[str, Any]:
        target = self.pairs[place][1]
        sick, groups = self.sick[target], self.groups[target]
        return {"auc": area(of_target, sick), "ci95": area_interval(of_target, sick, groups)}

    def described(self, scores: Scores, changes: list[float]) -> dict[str, Any]:
        """Describe a recipe: areas with intervals by group, the worst of them, changed labels."""
        areas = {
            direction: self._area(place, scores[place])
            for place, direction in enumerate(DIRECTIONS)
        }
        return {
            "auc": areas,
            "worst": min(value["auc"] for value in areas.values()),
            "kernel_changes": dict(zip(DIRECTIONS, changes, strict=True)),
        }

    def within_zip(self, fit: Fit, own: Vectors, **more: Any) -> dict[str, float]:
        """Cross-validate in the zip by group: balanced accuracy at the head's own middle."""
        places = np.flatnonzero(self._zip)
        sick, groups = self.sick[places], self.groups[places]
        found = []
        for seed in range(SHUFFLES):
            called = np.zeros(len(places), dtype=np.int64)
            for train, held_out in grouped_folds(sick, groups, seed):
                weights, bias = fit(self.training(places[train], own, **more))
                called[held_out] = own[places[held_out]] @ weights + bias > 0
            found.append(balanced_accuracy(sick, called))
        return {"balanced_accuracy": float(np.mean(found))}

    def within_zip_as_served(self, head: Served, own: Vectors) -> dict[str, float]:
        """Cross-validate in the zip by group, at the threshold that each fold would store."""
        places = np.flatnonzero(self._zip)
        kept = KeptScans(
            vectors=own[places][:, np.newaxis],
            labels=self.sick[places],
            groups=self.groups[places].astype(str),
            copies=np.ones(len(places), dtype=np.int64),
            measured={},
            classes=CLASSES,
            sources=self.source[places],
            healthy=CLASSES[:1],
        )
        recipe = Recipe(head.l2, True, SENSITIVITY, head.shrinkage)
        scored = grouped_score(kept, self.groups[places], recipe, SHUFFLES, 0)
        return {"as_served": scored["model_at_threshold"]["balanced_accuracy"]["mean"]}
