"""What a registry refuses, in one sentence each."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager

import mlflow
import requests
from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import read_mlflow_creds

from steps.errors import StageError

AUTHENTICATION_CODES = {"UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"}
UNREACHABLE = ("Connection refused", "Max retries exceeded", "timed out", "NameResolution",
               "Connection aborted", "RemoteDisconnected", "Connection reset")  # fmt: skip


class RegistryError(StageError):
    """The registry cannot be used as asked; the message says why and what to do."""


def no_versions(name: str) -> str:
    """Return the sentence for a registered model that has no versions yet."""
    return (
        f"The registered model '{name}' has no versions at {registry_uri()}; run the evaluation "
        "with register: true first (mlflow run . -P register=true)."
    )


def registry_uri() -> str:
    """Return where the registry is, without a password that a database URI may carry."""
    uri: str = mlflow.get_registry_uri()
    scheme, separator, rest = uri.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}" if separator else uri


def person() -> str:
    """Return who is asking: the tracking server's user, else the operating system's."""
    name = os.environ.get("MLFLOW_TRACKING_USERNAME") or read_mlflow_creds().username
    return name or getpass.getuser()


def _unreachable() -> str:
    return (
        f"The MLflow server at {registry_uri()} does not answer; check MLFLOW_TRACKING_URI, the "
        "network and that the server runs, then run the same command again."
    )


@contextmanager
def registry_errors(name: str) -> Iterator[None]:
    """Turn what MLflow raises inside the block into a RegistryError of one sentence."""
    try:
        yield
    except MlflowException as error:
        raise RegistryError(sentence(error, name)) from error
    except requests.RequestException as error:
        raise RegistryError(_answer(error, name)) from error


def _answer(error: requests.RequestException, name: str) -> str:
    if error.response is None:
        return _unreachable()
    if error.response.status_code in (401, 403):
        return _forbidden(name)
    return f"MLflow at {registry_uri()} answered HTTP {error.response.status_code}."


def _forbidden(name: str) -> str:
    return (
        f"User '{person()}' may not do this at {registry_uri()}; promotion needs MANAGE on the "
        f"registered model '{name}' and EDIT on the experiments of its runs (docs/registry.md)."
    )


def sentence(error: Exception, name: str) -> str:
    """Return what went wrong and what to do, in one sentence."""
    if isinstance(error, requests.RequestException):
        return _answer(error, name)
    if not isinstance(error, MlflowException):
        return " ".join(f"{type(error).__name__}: {error}".split())[:300]
    code, text = str(error.error_code), str(error)
    if code in AUTHENTICATION_CODES or "error code 401" in text:
        return (
            f"The MLflow server at {registry_uri()} refused user '{person()}'; check "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."
        )
    if code == "PERMISSION_DENIED" or "error code 403" in text:
        return _forbidden(name)
    if any(sign in text for sign in UNREACHABLE):
        return _unreachable()
    first_line = next(iter(text.splitlines()), code)
    return f"MLflow at {registry_uri()} answered: {first_line[:300]}"
