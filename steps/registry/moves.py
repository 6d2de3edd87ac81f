"""Moves of versions between stages: one at a time, and stage, alias and history together."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from mlflow.exceptions import MlflowException

from steps.registry.client import TRIAL, TRIAL_ALIAS, Registry, Snapshot
from steps.registry.errors import RegistryError, sentence
from steps.registry.history import Move, claims, next_time

ALIAS_OF_STAGE = {"Staging": "challenger", "Production": "champion"}
PATIENCE_S = 60.0  # longest wait for somebody else's move; one takes a second or two
SETTLE_ROUNDS = 10


class BusyError(RegistryError):
    """Another promotion holds the registry or has changed it; nothing was moved."""


class HalfDoneError(RegistryError):
    """A move began and could not be finished; the next command sees to it."""


def make_move(registry: Registry, move: Move, patience_s: float = PATIENCE_S) -> Move:
    """Make one move: stage, alias and history, with nobody else moving meanwhile.

    Returns:
        The move as it was recorded.

    Raises:
        BusyError: another promotion is at work, or the registry is not what `move` assumes.
        HalfDoneError: the registry failed on the way.
    """
    with claim(registry, move, patience_s) as (claimed, snapshot):
        version = snapshot.versions.get(move.version)
        holders = snapshot.in_stage(move.to) if move.to in ALIAS_OF_STAGE else []
        expected = [] if move.replaced is None else [move.replaced]
        if version is None or version.stage != move.source or holders != expected:
            raise BusyError(
                f"The registry changed while version {move.version} was being checked, so nothing "
                "was moved; look at --history and run the command again."
            )
        try:
            if move.to == TRIAL:
                registry.set_alias(TRIAL_ALIAS, move.version)
            else:
                registry.set_stage(move.version, move.to)
            settle(registry)
            registry.set_tag(claimed.history_key, claimed.to_json())
        except MlflowException as error:
            raise HalfDoneError(
                f"The move of version {move.version} to {move.to} was interrupted, and the next "
                "command finishes or forgets it (python -m steps.promote --repair): "
                + sentence(error, registry.name)
            ) from error
    return claimed


@contextmanager
def claim(
    registry: Registry, move: Move, patience_s: float = PATIENCE_S
) -> Iterator[tuple[Move, Snapshot]]:
    """Hold the registry for one move; if the block dies half-way the claim stays as its trace.

    MLflow has no compare-and-set, so a claim is a tag of its own, written before the others' are
    read. Of two that start together at least one therefore sees the other, and whoever sees
    another claim withdraws and waits: two never hold the registry, whatever their timing
    (docs/adr/0041-promotion-claims.md).

    Yields:
        The move with its time, and the registry as it was read with the claim in place.

    Raises:
        BusyError: another promotion still held the registry after `patience_s`.
    """
    deadline = time.monotonic() + patience_s
    while True:
        claimed = replace(move, when=next_time(registry.read()))
        registry.set_tag(claimed.claim_key, claimed.to_json())
        snapshot = registry.read()
        rivals = [other for other in claims(snapshot) if other.id != move.id]
        if not rivals:
            break
        registry.drop_tag(claimed.claim_key)
        while rivals and time.monotonic() < deadline:
            time.sleep(random.uniform(0.1, 0.6))  # noqa: S311 - so that two do not keep in step
            rivals = [other for other in claims(registry.read()) if other.id != move.id]
        if rivals:
            raise BusyError(
                f"{rivals[0].who} on {rivals[0].host} is moving version {rivals[0].version} to "
                f"{rivals[0].to} at this moment, so nothing was moved; run the command again."
            )
    try:
        yield claimed, snapshot
    except BusyError:
        registry.drop_tag(claimed.claim_key)
        raise
    registry.drop_tag(claimed.claim_key)


@dataclass(frozen=True)
class Fix:
    """One write that brings a stage and its alias in step, and why it is needed."""

    why: str
    version: int | None = None  # None: the alias goes
    stage: str | None = None
    alias: str | None = None


def disagreements(snapshot: Snapshot) -> list[Fix]:
    """Return what must be written so that each stage and its alias name one version.

    The stage is right and the alias follows. Of several versions in one stage, the one that a
    move in progress puts there stays, else the one with the alias, else the one changed last.
    """
    fixes = []
    intended = {(move.to, move.version) for move in claims(snapshot)}
    for stage, alias in ALIAS_OF_STAGE.items():
        holders = snapshot.in_stage(stage)
        named = snapshot.aliases.get(alias)
        ranked = sorted(
            ((stage, n) in intended, n == named, snapshot.versions[n].updated_ms, n)
            for n in holders
        )
        keep = ranked[-1][-1] if ranked else None
        if len(holders) > 1:
            numbers = " and ".join(map(str, holders))
            why = f"versions {numbers} were in {stage}, {keep} stays"
            fixes.append(Fix(why, version=keep, stage=stage))
        if named != keep:
            was = f"alias {alias} was on version {named}" if named else f"alias {alias} was missing"
            now = f"version {keep} is in {stage}" if keep else f"none is in {stage}"
            fixes.append(Fix(f"{was} while {now}", version=keep, alias=alias))
    return fixes


def settle(registry: Registry) -> list[str]:
    """Write until stages and aliases agree, ending with a reading that shows it.

    Returns:
        What had to be written, a phrase each.
    """
    done: list[str] = []
    for _ in range(SETTLE_ROUNDS):
        fixes = disagreements(registry.read())
        if not fixes:
            return done
        for fix in fixes:
            if fix.stage and fix.version:
                registry.set_stage(fix.version, fix.stage)
            elif fix.alias and fix.version:
                registry.set_alias(fix.alias, fix.version)
            elif fix.alias:
                registry.drop_alias(fix.alias)
            done.append(fix.why)
    raise RegistryError(
        "Stages and aliases keep changing while they are brought in step; find out who else "
        "writes to this registered model, then run: python -m steps.promote --repair"
    )
