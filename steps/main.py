"""The whole pipeline: the DVC stages, as one MLflow run with a child run per executed stage.

Takes `name=value` for every parameter of params.yaml, as `mlflow run . -P name=value` passes them.
A value that differs from MLproject's default is put into params.yaml for this run, so that DVC
sees it as its own parameter, and taken out again at the end.
"""

from __future__ import annotations

import contextlib
import difflib
import io
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import mlflow
import yaml
from ruamel.yaml import YAML
from zc.lockfile import LockError, LockFile

from steps.errors import StageError, one_sentence_errors
from steps.headline import headline
from steps.tracking import PARENT_RUN_VARIABLE, say, stage_run

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("data_ingestion", "prepare_base_model", "training", "evaluation")
SAVED_PARAMS = Path(".dvc/tmp/params.before-run.yaml")
RUN_LOCK = Path(".dvc/tmp/main.lock")

# What a POSIX shell reads inside the double quotes that dvc.yaml puts round a value.
SHELL_CHARACTERS = frozenset('"$`\n')

Overrides = dict[tuple[str, str], Any]  # (section, name) to value


def overrides(given: Sequence[str], params: Mapping[str, Any], defaults: Mapping[str, Any]) -> Any:
    """Find the parameters that a run changes.

    Args:
        given: `name=value` each. A name that several sections have (`seed`) sets all of them.
        params: params.yaml: section to name to value; its values tell the types.
        defaults: MLproject's defaults of the entry point `main`; a value equal to its default
            leaves what params.yaml says.

    Returns:
        (section, name) to value, typed like the value in params.yaml.

    Raises:
        StageError: an unknown name, or a value of the wrong type.
    """
    found: Overrides = {}
    for text in given:
        name, _, value = text.partition("=")
        sections = [s for s in STAGES if name in params[s]]
        if not sections:
            known = sorted({n for s in STAGES for n in params[s]})
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {near[0]}?" if near else f" Known: {', '.join(known)}."
            raise StageError(f"There is no parameter {name!r}.{hint}")
        for section in sections:
            typed = _typed(name, value, params[section][name])
            if name in defaults and typed == _typed(name, str(defaults[name]), typed):
                continue
            found[section, name] = typed
    return found


def _typed(name: str, text: str, like: Any) -> Any:
    if isinstance(like, str):
        special = sorted(set(text) & SHELL_CHARACTERS)
        if special:
            raise StageError(
                f"Expected {name} without {' '.join(map(repr, special))}, which the shell that DVC "
                f"starts the stages with would read as its own; received {text!r}. Rename the file "
                "or folder, or point a link with a plain name at it."
            )
        return text
    value = yaml.safe_load(text) if text else None
    if isinstance(like, bool) and isinstance(value, bool):
        return value
    if isinstance(like, int | float) and not isinstance(like, bool):
        with contextlib.suppress(ValueError):
            number = float(text)
            return int(number) if number.is_integer() else number
    kind = "true or false" if isinstance(like, bool) else "a number"
    raise StageError(f"Expected {name} to be {kind}; received {text!r}. Correct it and run again.")


@contextlib.contextmanager
def changed_params(changes: Overrides, root: Path = ROOT) -> Iterator[None]:
    """Put values into params.yaml, comments kept, and put the file back when the block ends."""
    path, saved = root / "params.yaml", root / SAVED_PARAMS
    original = path.read_bytes()
    if changes:
        saved.parent.mkdir(parents=True, exist_ok=True)
        saved.write_bytes(original)
        editor = YAML()
        editor.width = 4096
        document = editor.load(original)
        for (section, name), value in changes.items():
            document[section][name] = value
        edited = io.BytesIO()
        editor.dump(document, edited)
        path.write_bytes(edited.getvalue())
    try:
        yield
    finally:
        if changes:
            path.write_bytes(original)
            saved.unlink()


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


def restore_params(root: Path = ROOT) -> bool:
    """Put params.yaml back after a run that was killed; returns whether there was one."""
    saved = root / SAVED_PARAMS
    if not saved.is_file():
        return False
    (root / "params.yaml").write_bytes(saved.read_bytes())
    saved.unlink()
    return True


def run_pipeline(parent: mlflow.ActiveRun, root: Path = ROOT) -> list[str]:
    """Run `dvc repro` with its stages as children of a run.

    Returns:
        The stages that DVC skipped because nothing they depend on had changed.

    Raises:
        StageError: a stage failed; it has said why on standard error.
    """
    environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_RUN_ID"}
    environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # or TensorFlow tells of its build
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
    done = subprocess.run([sys.executable, "-m", "dvc", "repro"], cwd=root, env=environment)
    statuses = _stage_statuses(parent)
    if done.returncode:
        failed = next((s for s in STAGES if statuses.get(s, "FINISHED") != "FINISHED"), "DVC")
        raise StageError(
            f"The pipeline stopped (dvc repro, exit code {done.returncode}): see above"
            f" what {failed} says, mend it and run the same command again."
        )
    return [stage for stage in STAGES if stage not in statuses]


def _stage_statuses(parent: mlflow.ActiveRun) -> dict[str, str]:
    """Return how each stage that started ended; one that was killed still counts as RUNNING."""
    children = mlflow.MlflowClient().search_runs(
        [parent.info.experiment_id], f"tags.mlflow.parentRunId = '{parent.info.run_id}'"
    )
    return {run.info.run_name: run.info.status for run in children}


def _in_git(root: Path) -> bool:
    return any((folder / ".git").exists() for folder in (root, *root.parents))


@click.command(help=__doc__)
@click.argument("parameters", nargs=-1, metavar="[NAME=VALUE]...")
@one_sentence_errors
def main(parameters: tuple[str, ...]) -> None:
    os.chdir(ROOT)
    with only_run():
        _run(parameters)


def _run(parameters: tuple[str, ...]) -> None:
    if restore_params():
        say("params.yaml put back as it was before a run that was interrupted")
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    project = yaml.safe_load(Path("MLproject").read_text(encoding="utf-8"))
    declared = project["entry_points"]["main"]["parameters"]
    defaults = {name: spec["default"] for name, spec in declared.items()}
    changes = overrides(parameters, params, defaults)
    with stage_run("main") as parent:
        for (section, name), value in changes.items():
            say(f"this run: {section}.{name} = {value!r}")
        with changed_params(changes):
            mlflow.log_artifact("params.yaml")
            skipped = run_pipeline(parent)
        for stage in skipped:
            say(f"{stage}: unchanged, not run again")
        mlflow.set_tag("skipped_stages", ", ".join(skipped))
        mlflow.log_artifact("scores.json")
        _report(parent)


def _report(parent: mlflow.ActiveRun) -> None:
    click.echo(headline(Path("scores.json")))
    say(f"MLflow run {parent.info.run_id}; model in artifacts/training/model. Serve it with")
    say("  mlflow models serve -m artifacts/training/model --env-manager local")


if __name__ == "__main__":
    main()
