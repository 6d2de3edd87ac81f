"""The whole pipeline: the DVC stages, as one MLflow run with a child run per executed stage.

Takes `name=value` for every parameter of the stages: it counts for this run only, whatever
params.yaml says. `mlflow run . -P name=value` arrives here too.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import click
import mlflow
from zc.lockfile import LockError, LockFile

from steps import parameters as declared
from steps.errors import StageError, one_sentence_errors
from steps.headline import headline
from steps.options import PipelineCommand
from steps.parent_run import log_settings, name_of, record_pipeline
from steps.settings import OVERRIDES, PARAMS, effective, overridden, overrides
from steps.tracking import PARENT_RUN_VARIABLE, print_progress, stage_run

ROOT = Path(__file__).resolve().parents[1]
STAGES = tuple(section.section for section in declared.STAGES)
RUN_LOCK = Path(".dvc/tmp/main.lock")
STOP_PATIENCE_S = 30  # for a stage to end after Ctrl-C


def given_parameters(words: Sequence[str]) -> list[tuple[str, str]]:
    """Split the words of the command line into names and values.

    Args:
        words: `name=value`, `--name=value`, or `--name value` as MLflow passes `-P name=value`.

    Raises:
        StageError: a word is none of these.
    """
    found = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        if not equals and word.startswith("--") and rest:
            value = rest.pop(0)
        elif not equals:
            raise StageError(f"Expected name=value, such as epochs=50; received {word!r}.")
        found.append((name.replace("-", "_"), value))
    return found


@contextlib.contextmanager
def only_run(root: Path = ROOT) -> Iterator[None]:
    """Keep a second run out of the checkout until the block ends, however this process ends.

    Raises:
        StageError: another run is going on.
    """
    path = root / RUN_LOCK
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock = LockFile(str(path))
    except LockError as error:
        raise StageError(
            f"Another run of the pipeline is going on in {root}. Wait for it to end, or run this "
            "one in a clone of its own."
        ) from error
    try:
        yield
    finally:
        lock.close()


@contextlib.contextmanager
def signals_end_the_run() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into SystemExit, so that what is open is closed and put back."""

    def stop(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def repro(root: Path, environment: Mapping[str, str]) -> int:
    """Run `dvc repro` and return its exit code.

    When this process is told to end (Ctrl-C, SIGTERM), so are DVC and the stage: they get what
    Ctrl-C sends, and are killed where that does not end them in time.
    """
    command = [sys.executable, "-m", "dvc", "repro", "--quiet"]  # each stage names itself
    process = subprocess.Popen(command, cwd=root, env=dict(environment), process_group=0)
    try:
        return process.wait()
    except BaseException:
        with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, signal.SIGINT)
            process.wait(STOP_PATIENCE_S)
        raise
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def run_pipeline(parent: mlflow.ActiveRun, root: Path = ROOT) -> list[str]:
    """Run `dvc repro` with its stages as children of a run.

    Returns:
        The stages that DVC skipped because nothing they depend on had changed.

    Raises:
        StageError: a stage failed; it has said why on standard error.
    """
    environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_RUN_ID"}
    environment |= {
        PARENT_RUN_VARIABLE: parent.info.run_id,
        "MLFLOW_EXPERIMENT_ID": parent.info.experiment_id,
        "MLFLOW_TRACKING_URI": mlflow.get_tracking_uri(),
        # The stages' `python` must be this one, also where the environment is not activated.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
    }
    without_git = [] if _in_git(root) else ["core.no_scm=true"]
    for option in without_git:
        name, _, value = option.partition("=")
        subprocess.run(
            [sys.executable, "-m", "dvc", "config", "--local", name, value], cwd=root, check=True
        )
    exit_code = repro(root, environment)
    children = _children(parent)
    if exit_code:
        ended = {name: run.status for name, run in children.items()}
        failed = next((s for s in STAGES if ended.get(s, "FINISHED") != "FINISHED"), "DVC")
        raise StageError(
            f"The pipeline stopped (dvc repro, exit code {exit_code}): see above"
            f" what {failed} says, mend it and run the same command again."
        )
    for stage in STAGES:
        if stage in children:
            seconds = (children[stage].end_time - children[stage].start_time) / 1000
            print_progress(f"{stage}: {seconds:.0f} s")
        else:
            print_progress(f"{stage}: unchanged, not run again")
    return [stage for stage in STAGES if stage not in children]


def _children(parent: mlflow.ActiveRun) -> dict[str, mlflow.entities.RunInfo]:
    """Return the runs of the stages that started; one that was killed still counts as RUNNING."""
    children = mlflow.MlflowClient().search_runs(
        [parent.info.experiment_id], f"tags.mlflow.parentRunId = '{parent.info.run_id}'"
    )
    return {run.data.tags.get("stage", run.info.run_name): run.info for run in children}


def _in_git(root: Path) -> bool:
    return any((folder / ".git").exists() for folder in (root, *root.parents))


@click.command(cls=PipelineCommand, help=__doc__, context_settings={"ignore_unknown_options": True})
@click.argument("parameters", nargs=-1, metavar="[NAME=VALUE]...", type=click.UNPROCESSED)
@one_sentence_errors
def main(parameters: tuple[str, ...]) -> None:
    os.chdir(ROOT)
    with signals_end_the_run(), only_run():
        _run(given_parameters(parameters))


def _run(given: Sequence[tuple[str, str]]) -> None:
    changes = overrides(given, PARAMS)
    settings = effective(changes, PARAMS)
    with stage_run("main", name_of(settings)) as parent:
        log_settings(settings)
        for section, values in changes.items():
            for name, value in values.items():
                print_progress(f"this run: {section}.{name} = {value!r}")
        with overridden(changes, ROOT):
            mlflow.log_artifact(str(PARAMS))
            mlflow.log_artifact(OVERRIDES)
            skipped = run_pipeline(parent)
        mlflow.set_tag("skipped_stages", ", ".join(skipped))
        record_pipeline(parent)
        _report(parent)


def _report(parent: mlflow.ActiveRun) -> None:
    click.echo(headline(Path("scores.json")))
    print_progress(f"MLflow run {parent.info.run_id}; model in artifacts/training/model.")
    print_progress("Serve it with")
    print_progress("  mlflow models serve -m artifacts/training/model --env-manager local")


if __name__ == "__main__":
    main()
