"""How a stage's command ends when the user, the disk or the network is at fault."""

from __future__ import annotations

import contextlib
import errno
import functools
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ParamSpec, TypeVar

import click
from mlflow.exceptions import MlflowException

from model.decoding.errors import ScanError
from model.weights import WeightsError
from scans.errors import SourceError

P = ParamSpec("P")
R = TypeVar("R")


class StageError(ValueError):
    """Something a stage needs is missing or does not fit; the message says what to do."""


@contextlib.contextmanager
def read_of(path: Path, stage: str) -> Iterator[None]:
    """Turn what reading an artefact of another layout raises into one sentence.

    Args:
        path: the file or folder that is read in the block.
        stage: that writes it.

    Raises:
        StageError: it is missing, damaged, or of another version of the code.
    """
    try:
        yield
    except (StageError, SourceError):
        raise  # a sentence already
    except FileNotFoundError as error:
        raise StageError(
            f"{error.filename or path} is missing. Run {stage} again: dvc repro {stage}"
        ) from error
    except (
        AttributeError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile
    ) as error:  # fmt: skip
        raise StageError(
            f"{path} is damaged or was written by another version of {stage} "
            f"({type(error).__name__}: {_first_line(error)}). Run {stage} again: dvc repro {stage}"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0].rstrip(".")


def one_sentence_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Turn the errors a user can mend into one sentence on standard error and exit code 1.

    Anything else is a fault of this program and keeps its traceback.
    """

    @functools.wraps(command)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except (StageError, SourceError, ScanError, WeightsError) as error:
            raise click.ClickException(str(error)) from error
        except MlflowException as error:
            first_line = str(error).splitlines()[0]
            raise click.ClickException(f"MLflow refused: {first_line}") from error
        except OSError as error:
            raise click.ClickException(_os_error_sentence(error)) from error

    return wrapper


def _os_error_sentence(error: OSError) -> str:
    where = f" ({error.filename})" if error.filename else ""
    if error.errno == errno.ENOSPC:
        return f"The disk is full{where}. Free some space and run the same command again."
    if isinstance(error, PermissionError):
        return f"No permission to read or write{where}. Check the owner and mode of the path."
    if isinstance(error, FileNotFoundError):
        return f"A file is missing{where}. Run the stage that writes it first: dvc repro"
    return f"{error.strerror or error}{where}"
