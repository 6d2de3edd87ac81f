"""Scans in, rows out: decoding, the network, the head and the decision, in bounded memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from . import artefact, decision
from .decoding.errors import ScanError
from .decoding.scan_file import decode_grey, scan_bytes
from .explain import evidence_maps, heatmap_png
from .features import feature_vectors
from .forks import PerProcess
from .out_of_domain import OutOfDomain
from .preprocessing import Shown, shown
from .runtime import Runtime
from .series_answer import Attention

HEATMAP = "heatmap"  # the column that is only there when an explanation is asked for
ATTENTION = "attention"  # the column that only models have whose series answers need it
BATCH = 16  # scans that go through the network together: about the fastest, 2.4 MB of pixels

Maps = Callable[[], NDArray[np.float32]] | None  # of one batch's scans, once the network is done
Row = dict[str, Any]
T = TypeVar("T")


def output_columns(classes: Sequence[str]) -> list[tuple[str, str]]:
    """Return each column of a row with its MLflow type, in order. New ones go to the end."""
    return [
        ("label", "string"),
        ("probability", "double"),
        *((f"p_{name}", "double") for name in classes),
        ("error", "string"),
        ("out_of_domain", "boolean"),
        ("undecided", "boolean"),
        ("error_code", "string"),
    ]


class Scorer:
    """A loaded model. May be called from several threads."""

    def __init__(self, folder: Path) -> None:
        """Load the network folder of a model (see artefact.py)."""
        self.card = artefact.Card.read(folder)
        self.columns = [name for name, _ in output_columns(self.card.classes)]
        self._head = artefact.Head.read(folder)
        self._out_of_domain = OutOfDomain.read(folder)
        self._attention = Attention.read(folder)
        self._runtime = Runtime(folder / artefact.NETWORK, self.card.precision)
        self._decoders = PerProcess(
            lambda: ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="decode")
        )

    @property
    def has_attention(self) -> bool:
        """Whether rows have `attention`, which the model's series answers need."""
        return self._attention is not None

    def rows(
        self, images: Sequence[object], threshold: float | None = None, explain: bool = False
    ) -> list[Row]:
        """Score scans.

        Args:
            images: each the bytes of a file, or base64 text of them.
            threshold: least probability of disease to call a scan diseased; None takes the
                model's own.
            explain: add `heatmap`, see `model.explain.heatmap_png`.

        Returns:
            One row per image, in order, with the keys of `columns`, and `attention` where the
            model has it; what could not be scored has `error`, `error_code` and None elsewhere.
        """
        rows: list[Row] = []
        under_way: deque[tuple[list[Shown | ScanError], Maps]] = deque()
        for batch in self._decoded_batches(images):
            pixels = [scan.pixels for scan in batch if isinstance(scan, Shown)]
            under_way.append((batch, self._runtime.start(np.stack(pixels)) if pixels else None))
            if len(under_way) == 2:  # so that the network never waits for this thread
                rows += self._score(*under_way.popleft(), threshold, explain)
        for batch, maps in under_way:
            rows += self._score(batch, maps, threshold, explain)
        return rows

    def each(self, work: Callable[[object], T], images: Sequence[object]) -> list[T]:
        """Do something with each image, in the threads that decode. Returns it in order."""
        return list(self._decoders.get().map(work, images))

    def _decoded_batches(self, images: Sequence[object]) -> Iterator[list[Shown | ScanError]]:
        """Decode one batch ahead of the network."""
        if len(images) == 1:
            yield [self._decode(images[0])]
            return
        decoders = self._decoders.get()
        ahead: list[Future[Shown | ScanError]] = []
        for start in range(0, len(images), BATCH):
            coming = [
                decoders.submit(self._decode, image) for image in images[start : start + BATCH]
            ]
            if ahead:
                yield [future.result() for future in ahead]
            ahead = coming
        if ahead:
            yield [future.result() for future in ahead]

    def _decode(self, image: object) -> Shown | ScanError:
        try:
            return shown(decode_grey(scan_bytes(image)), self.card.preprocessing)
        except ScanError as error:
            return error

    def _score(
        self,
        batch: list[Shown | ScanError],
        under_way: Maps,
        threshold: float | None,
        explain: bool,
    ) -> list[Row]:
        more = [*([HEATMAP] if explain else []), *([ATTENTION] if self.has_attention else [])]
        rows: list[Row] = [dict.fromkeys([*self.columns, *more]) for _ in batch]
        for row, scan in zip(rows, batch, strict=True):
            if isinstance(scan, ScanError):
                row |= {"error": str(scan), "error_code": scan.code}
        if under_way is None:
            return rows
        maps = under_way()
        features = feature_vectors(maps)
        p = decision.probabilities(self._head.logits(features), self.card.temperature)
        card = self.card
        chosen = decision.labels(
            p,
            card.classes,
            card.threshold if threshold is None else threshold,
            card.healthy_classes,
            stored=threshold is None,
        )
        scored = [row for row in rows if row["error"] is None]
        for row, index, row_p in zip(scored, chosen, p, strict=True):
            row["label"] = self.card.classes[index]
            row["probability"] = float(row_p[index])
            for name, value in zip(self.card.classes, row_p, strict=True):
                row[f"p_{name}"] = float(value)
        self._add_flags(scored, features, p)
        if explain:
            boxes = [scan.box for scan in batch if isinstance(scan, Shown)]
            evidence = evidence_maps(maps, self._head, chosen)
            for row, of_scan, box in zip(scored, evidence, boxes, strict=True):
                row[HEATMAP] = heatmap_png(of_scan, box)
        return rows

    def _add_flags(
        self, rows: list[Row], features: NDArray[np.float32], p: NDArray[np.float64]
    ) -> None:
        """Add `out_of_domain`, `undecided` and `attention`, where the model has what they need."""
        if self._out_of_domain is not None:
            for row, flag in zip(rows, self._out_of_domain.flags(features), strict=True):
                row["out_of_domain"] = bool(flag)
        if self.card.conformal is not None:
            for row, flag in zip(rows, self.card.conformal.undecided(p), strict=True):
                row["undecided"] = bool(flag)
        if self._attention is not None:
            for row, logit in zip(rows, self._attention.logits(features), strict=True):
                row[ATTENTION] = float(logit)
