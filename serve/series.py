"""A whole series: planned from headers, scored a part at a time, answered once."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from serve.scoring import SERIES, ServedModel
from serve.uploads import LeftOut, Scan
from serve.zips import DamagedZipError, is_zip

Row = dict[str, Any]

MOST_SKIPPED = 4  # times the bytes of a frame, where its next slices are skipped
FIRST_ROWS = 4  # of many, in the first call of the model, so that its network begins soon
HEAD_BYTES = 64 * 1024  # a CT header is of 2 to 20 kB
# Of more scans, so that the heads of 1,000 stay few megabytes, and of those to be unpacked for it.
SHORT_HEAD_BYTES, MANY = 16 * 1024, 256
LONG_HEAD_BYTES, MAX_LONG_HEADS = 1024 * 1024, 32
DICOM = slice(128, 132)
NESTED = "a zip within a zip; unpack it and send its files"
POSITION, SKIPPED = "position_mm", "skipped"
NOT_SCANS = {"unknown_format", "empty"}  # error codes of what is in a zip beside the slices


@dataclass(frozen=True)
class Plan:
    """What is known of the scans of an upload before any is scored.

    Attributes:
        scans: those that can be read.
        left_out: the others.
        facts: `series`, `position_mm` and `skipped` of each scan; None where series are not
            answered.
    """

    scans: list[Scan]
    left_out: list[LeftOut]
    facts: pd.DataFrame | None


def planned(scans: list[Scan], wanted: bool | None, zipped: bool, model: ServedModel) -> Plan:
    """Read the start of each scan, and decide whether series are answered.

    Args:
        scans: of an upload.
        wanted: what the client said; None leaves it to what was sent.
        zipped: whether a zip was sent.
        model: what scores.

    Raises:
        RefusalError: nobody waits for the answer any more.
    """
    head_bytes = HEAD_BYTES if len(scans) <= MANY else SHORT_HEAD_BYTES
    heads: list[bytes] = []
    kept: list[Scan] = []
    left_out: list[LeftOut] = []
    for scan in scans:
        model.check_wanted()
        try:
            head = scan.read(SHORT_HEAD_BYTES if scan.zipped else head_bytes)
        except DamagedZipError as error:
            left_out.append(LeftOut(scan.file, str(error)))
            continue
        if scan.zipped and is_zip(head[:132]):
            left_out.append(LeftOut(scan.file, NESTED))
            continue
        heads.append(head)
        kept.append(scan)
    asked = wanted or zipped or len(kept) > 1
    if wanted is False or not model.answers_series or not asked or not kept:
        return Plan(kept, left_out, None)
    facts = model.series_plan(heads)
    facts = with_long_headers(facts, kept, heads, model)
    most_of_one = max(Counter(facts[SERIES].dropna()).values(), default=0)
    answered = wanted or zipped or most_of_one > 1
    return Plan(kept, left_out, facts if answered else None)


def with_long_headers(
    facts: pd.DataFrame, scans: Sequence[Scan], heads: list[bytes], model: ServedModel
) -> pd.DataFrame:
    """Return the facts after reading more of DICOM files whose series stands far behind."""
    unknown = [
        i
        for i, (head, series) in enumerate(zip(heads, facts[SERIES], strict=True))
        if series is None and head[DICOM] == b"DICM" and scans[i].size > len(head)
    ]
    if not unknown:
        return facts
    for i in unknown[:MAX_LONG_HEADS]:
        with contextlib.suppress(DamagedZipError):  # found out again when all of it is read
            heads[i] = scans[i].read(LONG_HEAD_BYTES)
    return model.series_plan(heads)


class Frames:
    """The rows that go to the model, some at a time, and which scans they are of.

    Where series are answered they go in the order of their positions, and a frame begins at a
    slice that is not skipped. So the model skips, frame by frame, what it would skip in one call.
    """

    def __init__(self, plan: Plan, rows: int, max_bytes: int) -> None:
        """Take the plan, and the most rows that are scored, and bytes, of one frame.

        A frame may have MOST_SKIPPED times as many bytes, so that it ends before a scored slice.
        """
        self._plan = plan
        self._rows = rows
        self._max_bytes = max_bytes
        self.places: list[int] = []  # of the scans in the frames so far
        self.left_out: dict[int, str] = {}

    def _order(self) -> Iterator[tuple[int, bool]]:
        """Yield the place of each scan, and whether it is skipped."""
        facts = self._plan.facts
        if facts is None:
            yield from ((i, False) for i in range(len(self._plan.scans)))
            return
        series, position = facts[SERIES].fillna(""), facts[POSITION].astype(float)
        for i in np.lexsort((position.to_numpy(), pd.factorize(series)[0])):
            yield int(i), bool(facts[SKIPPED].iat[i])

    def __iter__(self) -> Iterator[pd.DataFrame]:
        """Yield frames with the column `image`, and `series` where series are answered."""
        images: list[bytes] = []
        held = scored = 0
        most = FIRST_ROWS if len(self._plan.scans) > self._rows else self._rows
        for i, skipped in self._order():
            size = self._plan.scans[i].size
            full = scored == most and not skipped
            large = held + size > (MOST_SKIPPED if skipped else 1) * self._max_bytes
            if images and (full or large):
                yield self._frame(images)
                images, held, scored, most = [], 0, 0, self._rows
            try:
                images.append(self._plan.scans[i].read(-1))
            except DamagedZipError as error:
                self.left_out[i] = str(error)
                continue
            self.places.append(i)
            held += size
            scored += not skipped
        if images:
            yield self._frame(images)

    def _frame(self, images: list[bytes]) -> pd.DataFrame:
        frame = pd.DataFrame({"image": pd.Series(images, dtype=object)})
        if self._plan.facts is not None:
            places = self.places[-len(images) :]
            frame[SERIES] = self._plan.facts[SERIES].iloc[places].to_numpy(object)
        return frame
