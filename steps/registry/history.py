"""The record of a registered model's moves between stages, kept in the registry's own tags."""

from __future__ import annotations

import json
import os
import socket
import uuid
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime, timedelta

from steps.registry.client import Snapshot
from steps.registry.errors import RegistryError

CLAIM = "promotion."  # tag of the registered model for a move that has begun: CLAIM + its id
HISTORY = "history."  # tag of the registered model for a move that was made: HISTORY + time + id
TIME_FORMAT = "%Y-%m-%dT%H-%M-%S.%fZ"  # UTC; no colons, which MLflow refuses in keys of tags


@dataclass(frozen=True)
class Move:
    """One move: the claim while it happens, the entry in the history afterwards."""

    kind: str  # promotion, rollback or repair
    version: int
    source: str  # stage before
    to: str  # stage after
    who: str
    why: str = ""
    replaced: int | None = None  # the version that held the stage and is archived by this move
    forced: bool = False
    gates: dict[str, str] = field(default_factory=dict)  # name of the gate → its result, a sentence
    when: str = ""  # TIME_FORMAT
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)

    def to_json(self) -> str:
        """Return the move as the value of a tag."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @property
    def when_shown(self) -> str:
        """Return the time for a reader: date, time to the second, UTC."""
        return datetime.strptime(self.when, TIME_FORMAT).strftime("%Y-%m-%d %H:%M:%S UTC")

    @property
    def claim_key(self) -> str:
        """Return the key of the tag that claims the registry for this move."""
        return f"{CLAIM}{self.id}"

    @property
    def history_key(self) -> str:
        """Return the key of the tag that records this move; keys sort by time."""
        return f"{HISTORY}{self.when}.{self.id}"


def history(snapshot: Snapshot) -> list[Move]:
    """Return every recorded move, oldest first."""
    return _moves(snapshot, HISTORY)


def claims(snapshot: Snapshot) -> list[Move]:
    """Return the moves that have begun and are not finished."""
    return _moves(snapshot, CLAIM)


def _moves(snapshot: Snapshot, prefix: str) -> list[Move]:
    names = {one.name for one in fields(Move)}
    moves = []
    for key, value in sorted(snapshot.tags.items()):
        if not key.startswith(prefix):
            continue
        try:
            entry = json.loads(value)
            moves.append(Move(**{name: entry[name] for name in names & entry.keys()}))
        except (ValueError, TypeError, AttributeError) as error:
            raise RegistryError(
                f"The tag '{key}' of the registered model does not hold a recorded move (was it "
                "edited by hand?); put its value right or delete it in the MLflow page."
            ) from error
    return moves


def next_time(snapshot: Snapshot) -> str:
    """Return the present time, but later than every recorded move, whoever's clock is slow."""
    now = datetime.now(UTC)
    for move in history(snapshot)[-1:]:
        last = datetime.strptime(move.when, TIME_FORMAT).replace(tzinfo=UTC)
        now = max(now, last + timedelta(microseconds=1))
    return now.strftime(TIME_FORMAT)


def came_through_staging(snapshot: Snapshot, version: int) -> bool:
    """Return whether a promotion, with its gates, ever put the version into Staging."""
    return any(
        move.version == version and move.to == "Staging" and move.kind == "promotion"
        for move in history(snapshot)
    )


def previous_production(snapshot: Snapshot) -> int | None:
    """Return the version that was in Production before the present one, None where none was.

    The history is read as a stack: a promotion puts a version on top, a rollback takes off what
    lies above the version it puts back. So a second rollback goes one version further back, not
    forward again. Versions that were deleted since are passed over.
    """
    stack: list[int] = []
    for move in history(snapshot):
        if move.to != "Production":
            continue
        if move.kind == "rollback":
            while stack and stack[-1] != move.version:
                stack.pop()
        if not stack or stack[-1] != move.version:
            stack.append(move.version)
    present = snapshot.in_stage("Production")
    while stack and (stack[-1] in present or stack[-1] not in snapshot.versions):
        stack.pop()
    return stack[-1] if stack else None
