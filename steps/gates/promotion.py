"""What each of promotion's commands does with the registry: move, roll back, tell the history."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import mlflow

from steps.gates.evidence import TAG_LENGTH, artefact_errors, download_version, store
from steps.gates.external import external_gate
from steps.gates.floor import sensitivity_floor_gate
from steps.gates.production import Margins, production_gates
from steps.gates.staging import Gate, StoredModel, staging_gates, trial_gates
from steps.registry.client import TRIAL, TRIAL_ALIAS, Registry, Snapshot, Version
from steps.registry.errors import RegistryError, no_versions
from steps.registry.history import (
    TIME_FORMAT,
    Move,
    came_through_staging,
    history,
    previous_production,
)
from steps.registry.moves import ALIAS_OF_STAGE, make_move


class GateFailedError(ValueError):
    """A gate failed, so nothing was moved."""


@dataclass(frozen=True)
class Request:
    """Who asks for a move, why, and by which rules."""

    who: str
    why: str
    force: bool
    data: Path
    margins: Margins
    report: Callable[[str], None]  # receives each gate's result


def promote(registry: Registry, to: str, number: int | None, request: Request) -> list[str]:
    """Run the gates to a stage and move a version there if they pass.

    Args:
        registry: the registered model.
        to: the stage.
        number: the version; None means the newest for Staging and Trial, the one in Staging for
            Production.
        request: who, why and by which rules.

    Returns:
        What was done, one line each.

    Raises:
        GateFailedError: at least one gate failed and the move is not forced.
        RegistryError: it could not be tried, or somebody else was faster.
    """
    snapshot = registry.read()
    version = _chosen(registry, snapshot, to, number)
    if snapshot.is_at(version.number, to):
        return [f"Version {version.number} of {registry.name} is in {to} already."]
    if version.stage == "Production" and to != TRIAL and not request.force:
        raise RegistryError(
            f"Version {version.number} is in Production, and moving it to {to} would leave none "
            'there; add --force --reason "…" if that is meant, or use --rollback.'
        )
    holders = snapshot.in_stage(to) if to in ALIAS_OF_STAGE else []
    replaced = holders[0] if holders else None
    guarded = to == TRIAL or to in ALIAS_OF_STAGE
    gates = _gates(registry, snapshot, version, to, request) if guarded else []
    for gate in gates:
        request.report(f"  {gate.result:8} {gate.name}: {gate.sentence}")
    _decide(version, to, gates, force=request.force)
    move = Move(
        kind="promotion",
        version=version.number,
        source=version.stage,
        to=to,
        who=request.who,
        why=request.why,
        replaced=replaced,
        forced=request.force,
        gates={gate.name: f"{gate.result}: {gate.sentence}"[:TAG_LENGTH] for gate in gates},
    )
    return move_lines(registry, make_move(registry, move))


def _chosen(registry: Registry, snapshot: Snapshot, to: str, number: int | None) -> Version:
    if not snapshot.versions:
        raise RegistryError(no_versions(registry.name))
    if number is None and to in ("Staging", TRIAL):
        number = max(snapshot.versions)
    elif number is None and to == "Production":
        number = max(snapshot.in_stage("Staging"), default=None)
        if number is None:
            raise RegistryError(
                "No version is in Staging, from where it would go to Production; run "
                "python -m steps.promote --to Staging first, or name one with --version."
            )
    if number is None:
        raise RegistryError(f"Which version goes to {to}? Name it with --version.")
    if number not in snapshot.versions:
        present = ", ".join(map(str, sorted(snapshot.versions)))
        raise RegistryError(f"{registry.name} has no version {number}; it has {present}.")
    return snapshot.versions[number]


def _gates(
    registry: Registry, snapshot: Snapshot, version: Version, to: str, request: Request
) -> list[Gate]:
    with tempfile.TemporaryDirectory() as folder:
        candidate = download_version(registry, version, Path(folder, "candidate"))
        if to == TRIAL:
            gates = trial_gates(candidate)
        elif to == "Staging":
            gates = staging_gates(candidate, request.data)
        else:
            incumbent: StoredModel | RegistryError | None = None
            for number in snapshot.in_stage("Production"):
                try:
                    present = snapshot.versions[number]
                    incumbent = download_version(registry, present, Path(folder, "incumbent"))
                except RegistryError as error:  # must not block Production for ever: see --force
                    incumbent = error
            gates = production_gates(
                candidate,
                incumbent,
                through_staging=came_through_staging(snapshot, version.number),
                external=external_gate(
                    version.number,
                    registry.name,
                    version.tags,
                    request.margins.external_auc_floor,
                ),
                data=request.data,
                margins=request.margins,
            )
            floor = sensitivity_floor_gate(version.tags)
            gates += [floor] if floor else []
    store(registry, version, to, gates, datetime.now(UTC).strftime(TIME_FORMAT))
    return gates


def _decide(version: Version, to: str, gates: list[Gate], *, force: bool) -> None:
    failed = [gate.name for gate in gates if gate.passed is False]
    if failed and not force:
        raise GateFailedError(
            f"Version {version.number} stays in {version.stage}: "
            f"{len(failed)} of {len(gates)} gates to {to} failed ({', '.join(failed)})."
        )
    not_run = [gate for gate in gates if gate.passed is None]
    if not_run and not force:
        raise RegistryError(
            f"Version {version.number} stays in {version.stage}: the gate '{not_run[0].name}' "
            f"could not run: {not_run[0].sentence.rstrip('.')}."
        )


def rollback(registry: Registry, request: Request) -> list[str]:
    """Put the version that was in Production before the present one back, and archive this one.

    Raises:
        RegistryError: there is none, or its artefacts are gone.
    """
    snapshot = registry.read()
    number = previous_production(snapshot)
    if number is None:
        raise RegistryError(
            f"No version of {registry.name} was in Production before the present one, so there is "
            "nothing to roll back to."
        )
    if not request.force:
        gone = f"Version {number} would be put back, but its artefacts cannot be read"
        with artefact_errors(registry, gone):
            mlflow.models.get_model_info(f"models:/{registry.name}/{number}")
    present = snapshot.in_stage("Production")
    move = Move(
        kind="rollback",
        version=number,
        source=snapshot.versions[number].stage,
        to="Production",
        who=request.who,
        why=request.why,
        replaced=present[0] if present else None,
        forced=request.force,
    )
    return move_lines(registry, make_move(registry, move))


def move_lines(registry: Registry, move: Move) -> list[str]:
    """Return a move in lines for a reader."""
    if move.to == TRIAL:
        return [
            f"Version {move.version} of {registry.name}: alias {TRIAL_ALIAS} "
            f"(models:/{registry.name}@{TRIAL_ALIAS}). SYNTHETIC: trained on phantoms."
        ]
    alias = ALIAS_OF_STAGE.get(move.to)
    lines = [
        f"Version {move.version} of {registry.name}: {move.source} → {move.to}"
        + (f" (alias {alias})." if alias else ".")
    ]
    if move.replaced is not None:
        lines.append(f"Version {move.replaced} of {registry.name}: {move.to} → Archived.")
    return lines


def history_lines(snapshot: Snapshot) -> list[str]:
    """Return every recorded move in lines for a reader, oldest first."""
    lines = []
    for move in history(snapshot):
        forced = ", forced" if move.forced else ""
        change = f"alias {TRIAL_ALIAS}" if move.to == TRIAL else f"{move.source} → {move.to}"
        lines.append(
            f"{move.when_shown}  {move.who}  version {move.version}: {change}  "
            f"({move.kind}{forced})"
        )
        if move.replaced is not None:
            lines.append(f"    archived version {move.replaced}")
        if move.why:
            lines.append(f"    why: {move.why}")
        lines.extend(f"    {name}: {result}" for name, result in move.gates.items())
    return lines
