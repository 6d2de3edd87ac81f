"""Processes that move versions: against each other, or until they are killed half-way."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from typing import Any

from steps.registry.client import Registry
from steps.registry.history import Move
from steps.registry.moves import BusyError, make_move

WRITES = ("set_stage", "set_alias", "drop_alias", "set_tag", "drop_tag")
JOIN_TIMEOUT_S = 300

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(
    ["steps.registry.moves", "mlflow.store.model_registry.sqlalchemy_store"]
)


def promotion(version: int, *, replaced: int | None, source: str = "None") -> Move:
    """Return a move of a version to Production."""
    return Move("promotion", version, source, "Production", "ana", "because", replaced)


def die_at(registry: Registry, write: int, *, after: bool) -> None:
    """Arrange that this process is killed at the n-th write (from 0), before or after it."""
    count = -1

    def deadly(method: Callable[..., None]) -> Callable[..., None]:
        def wrapper(*args: Any) -> None:
            nonlocal count
            count += 1
            if count == write and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            method(*args)
            if count == write:
                os.kill(os.getpid(), signal.SIGKILL)

        return wrapper

    for name in WRITES:
        setattr(registry, name, deadly(getattr(registry, name)))


def _mover(
    env: dict[str, str], name: str, version: int, replaced: int, write: int, after: bool
) -> None:
    os.environ.update(env)
    registry = Registry(name)
    die_at(registry, write, after=after)
    make_move(registry, promotion(version, replaced=replaced, source="Staging"))


def killed_mover(env: dict[str, str], name: str, write: int, *, after: bool) -> int:
    """Move version 2 from Staging to Production over 1, killed at a write; return the exit code."""
    process = processes.Process(target=_mover, args=(env, name, 2, 1, write, after))
    process.start()
    process.join(JOIN_TIMEOUT_S)
    assert process.exitcode is not None
    return process.exitcode


def _racer(env: dict[str, str], name: str, version: int, barrier: Any, results: Any) -> None:
    os.environ.update(env)
    registry = Registry(name)
    registry.read()  # so that both are connected when they start
    barrier.wait()
    try:
        make_move(registry, promotion(version, replaced=1))
        results.put(version)
    except BusyError:
        results.put(None)


def race(env: dict[str, str], name: str, versions: tuple[int, ...]) -> list[int | None]:
    """Let a process each move one version to Production over 1; return the winners and Nones."""
    barrier, results = processes.Barrier(len(versions)), processes.Queue()
    racers = [
        processes.Process(target=_racer, args=(env, name, version, barrier, results))
        for version in versions
    ]
    for racer in racers:
        racer.start()
    won = [results.get(timeout=JOIN_TIMEOUT_S) for _ in racers]
    for racer in racers:
        racer.join(JOIN_TIMEOUT_S)
    return won
