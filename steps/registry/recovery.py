"""What every promotion does first: finish what another left half-done, bring aliases in step."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable

from steps.registry.client import TRIAL, Registry, Snapshot
from steps.registry.history import Move, claims, history
from steps.registry.moves import PATIENCE_S, BusyError, claim, disagreements, settle

POLL_S = 0.5

Log = Callable[[str], None]


def recover(registry: Registry, who: str, log: Log, patience_s: float = PATIENCE_S) -> bool:
    """Wait for moves in progress, finish those whose process died, bring aliases in step.

    Args:
        registry: the registered model.
        who: whose name goes into the history for a repair.
        log: receives a sentence for each wait and each repair.
        patience_s: a claim from another machine that does not change for so long is taken for
            dead; one from this machine is dead as soon as its process is.

    Returns:
        Whether anything had to be repaired.
    """
    repaired = False
    first_seen: dict[str, float] = {}
    while True:
        snapshot = registry.read()
        unfinished = claims(snapshot)
        for move in unfinished:
            if move.id not in first_seen and not _process_died(move):
                log(f"Waiting for {move.who}, who is moving version {move.version} to {move.to} …")
            waited_s = time.monotonic() - first_seen.setdefault(move.id, time.monotonic())
            if _process_died(move) or waited_s >= patience_s:
                log(_finish(registry, snapshot, move))
                repaired = True
        if unfinished:
            time.sleep(POLL_S)
        elif disagreements(snapshot):
            repaired = _bring_in_step(registry, snapshot, who, log, patience_s) or repaired
        else:
            return repaired


def _process_died(move: Move) -> bool:
    if move.host != socket.gethostname():
        return False
    try:
        os.kill(move.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # it lives, and belongs to someone else
        return False
    return False


def _finish(registry: Registry, snapshot: Snapshot, move: Move) -> str:
    begun = (
        f"the move of version {move.version} to {move.to} that {move.who} began at "
        f"{move.when_shown}"
    )
    moved = snapshot.is_at(move.version, move.to)
    if moved:
        settle(registry)
        if move.kind != "repair":
            registry.set_tag(move.history_key, move.to_json())
    registry.drop_tag(move.claim_key)
    if moved:
        return f"Repaired: finished {begun}."
    return f"Repaired: {begun} had changed nothing and is forgotten; run it again if it is wanted."


def _bring_in_step(
    registry: Registry, snapshot: Snapshot, who: str, log: Log, patience_s: float
) -> bool:
    """Settle what was changed outside of promotion, as in MLflow's page, and record it."""
    fix = disagreements(snapshot)[0]
    number = fix.version or snapshot.aliases[str(fix.alias)]
    stages = [move for move in history(snapshot) if move.to != TRIAL]
    recorded = [move.to for move in stages if move.version == number]
    repair = Move(
        kind="repair",
        version=number,
        source=recorded[-1] if recorded else "None",
        to=snapshot.versions[number].stage,
        who=who,
        why="changed outside of promotion: "
        + "; ".join(one.why for one in disagreements(snapshot)),
    )
    try:
        with claim(registry, repair, patience_s) as (claimed, _):
            done = settle(registry)
            if done:
                registry.set_tag(claimed.history_key, claimed.to_json())
    except BusyError:
        return False
    for phrase in done:
        log(f"Repaired: {phrase}; they agree now.")
    return bool(done)
