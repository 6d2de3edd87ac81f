"""Move a version of the registered model to another stage, or tell what was moved.

\b
python -m steps.promote --to Staging              the newest version, if it passes the gates
python -m steps.promote --to Production           the version in Staging, if it passes the gates
python -m steps.promote --to Trial                a model of phantoms, to try the system with
python -m steps.promote --rollback                put the previous Production version back
python -m steps.promote --history                 who moved what, when, why, with which results

Exit codes: 0 done, 1 a gate failed and nothing was moved, 2 it could not be tried.
"""

from __future__ import annotations

import difflib
import logging
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from steps.errors import StageError
from steps.gates.production import Margins
from steps.gates.promotion import GateFailedError, Request, history_lines, promote, rollback
from steps.options import StageCommand, section_options
from steps.parameters import Promote
from steps.registry.client import TRIAL, Registry, check_registry
from steps.registry.errors import RegistryError, person, registry_errors
from steps.registry.history import claims
from steps.registry.moves import disagreements
from steps.registry.recovery import recover
from steps.tracking import print_progress, stage_run

STAGES = ("None", "Staging", "Production", "Archived")
MAX_REASON_CHARACTERS = 500
# MLflow's own defaults keep a user waiting for minutes when a server goes away in the middle.
PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


def stage_named(name: str) -> str:
    """Return the stage of this name in any case of letters.

    Raises:
        RegistryError: there is none; the nearest is named.
    """
    by_lower = {stage.lower(): stage for stage in (*STAGES, TRIAL)}
    if name.lower() in by_lower:
        return by_lower[name.lower()]
    near = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    hint = f"did you mean {by_lower[near[0]]}? " if near else ""
    raise RegistryError(
        f"There is no stage '{name}': {hint}The stages are {', '.join(STAGES)}; "
        f"a model of phantoms is tried with {TRIAL}."
    )


def version_named(name: str) -> int | None:
    """Return a version's number; None for `auto`.

    Raises:
        RegistryError: it is neither.
    """
    if name in ("auto", ""):
        return None
    if name.isdecimal() and int(name) > 0:
        return int(name)
    raise RegistryError(f"Expected --version to be a number such as 3, received '{name}'.")


@click.command(cls=StageCommand, help=__doc__)
@click.option("--to", help="Staging, Production, Archived or None; Trial for a phantom model.")
@click.option("--version", default="auto", help="A version's number; auto: newest, or in Staging.")
@click.option("--rollback", "roll_back", is_flag=True, help="Undo the last move to Production.")
@click.option("--history", "tell_history", is_flag=True, help="Print every move; changes nothing.")
@click.option("--repair", is_flag=True, help="Only finish half-done moves and mend aliases.")
@click.option("--force", is_flag=True, help="Move although gates fail; needs --reason.")
@click.option("--reason", default="", help="Why; kept in the history.")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=Path("artifacts/data_ingestion"),
    help="The ingested scans, for the gates.",
)
@section_options(Promote)
def main(
    settings: Promote,
    to: str | None,
    version: str,
    roll_back: bool,
    tell_history: bool,
    repair: bool,
    force: bool,
    reason: str,
    data: Path,
) -> None:
    margins = Margins(
        settings.balanced_accuracy_margin,
        settings.sensitivity_margin,
        settings.confidence,
        settings.bootstrap_replicates,
        settings.min_test_scans,
        settings.external_auc_floor,
        settings.seed,
    )
    registered_model_name = settings.registered_model_name
    request = Request("", reason, force, data, margins, report=click.echo)
    try:
        _check_usage([bool(to), roll_back, tell_history, repair], force, reason)
        stage, number = stage_named(to) if to else None, version_named(version)
        with registry_errors(registered_model_name), _run_of_mlflow(stage or "look"):
            registry = _connect(registered_model_name)
            if tell_history:
                lines = _history(registry)
            else:
                lines = _change(registry, request, stage, number, roll_back=roll_back)
    except GateFailedError as failed:
        click.echo(str(failed), err=True)
        sys.exit(1)
    except StageError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(2)
    for line in lines:
        click.echo(line)


def _run_of_mlflow(to: str) -> AbstractContextManager[Any]:
    """Go on with the run that `mlflow run . -e promote` made; otherwise there is none."""
    if "MLFLOW_RUN_ID" not in os.environ:
        return nullcontext()
    return stage_run("promote", f"promote · {to}")


def _check_usage(actions: list[bool], force: bool, reason: str) -> None:
    if sum(actions) != 1:
        raise RegistryError("Say one of --to STAGE, --rollback, --history or --repair; see --help.")
    if force and not reason.strip():
        raise RegistryError('--force needs a reason, which is kept: add --reason "…".')
    if len(reason) > MAX_REASON_CHARACTERS:
        raise RegistryError(
            f"Expected a --reason of at most {MAX_REASON_CHARACTERS} characters, received "
            f"{len(reason)}."
        )


def _connect(name: str) -> Registry:
    for variable, value in PATIENCE.items():
        os.environ.setdefault(variable, value)
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)  # what it logs, it also raises
    check_registry()
    return Registry(name)


def _history(registry: Registry) -> list[str]:
    snapshot = registry.read()
    if claims(snapshot) or disagreements(snapshot):
        print_progress("A move is half done or the aliases differ from the stages; run "
            "python -m steps.promote --repair")  # fmt: skip
    return history_lines(snapshot) or [f"No version of {registry.name} was moved so far."]


def _change(
    registry: Registry, request: Request, to: str | None, number: int | None, *, roll_back: bool
) -> list[str]:
    registry.check_permission()
    request = replace(request, who=person())
    repaired = recover(registry, request.who, print_progress)
    if to:
        return promote(registry, to, number, request)
    if roll_back:
        return rollback(registry, request)
    return [] if repaired else ["Nothing to repair: stages, aliases and history agree."]


if __name__ == "__main__":
    main()
