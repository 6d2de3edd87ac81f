"""A model's parameters, as a client may set them: by name, in the types that the model declares."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from serve.http.errors import RefusalError

TRUTHS = {"true": True, "1": True, "false": False, "0": False}
INTEGER_BITS = {"integer": 31, "long": 63}


def declared_params(metadata: Any) -> dict[str, str]:
    """Return the names of a model's parameters and MLflow's names of their types.

    Args:
        metadata: the `mlflow.models.Model` of a loaded pyfunc.
    """
    schema = metadata.get_params_schema()
    return {spec.name: str(spec.dtype.name) for spec in schema.params} if schema else {}


def described(declared: dict[str, str]) -> str:
    """Return the parameters for a sentence: `explain (boolean), threshold (double)`."""
    return ", ".join(f"{name} ({kind})" for name, kind in declared.items()) or "none"


def bad_params(message: str) -> RefusalError:
    """Return the refusal of parameters."""
    return RefusalError(400, "bad_request", message)


def check_names(names: Iterable[str], declared: dict[str, str]) -> None:
    """Raise RefusalError if a name is none of the declared parameters."""
    if any(name not in declared for name in names):
        raise bad_params(
            f"Expected parameters that this model has, {described(declared)}; received another one."
        )


def params_from_text(
    pairs: Iterable[tuple[str, str]], declared: dict[str, str]
) -> dict[str, Any] | None:
    """Return parameters that came as text, in a query or a form; None if there are none.

    Raises:
        RefusalError: 400 for an unknown name, a name that came twice, or a value of a wrong type.
    """
    given = list(pairs)
    if not given:
        return None
    check_names((name for name, _ in given), declared)
    params: dict[str, Any] = {}
    for name, text in given:
        if name in params:
            raise bad_params(f"Expected the parameter {name} once; received it several times.")
        params[name] = checked(from_text(text, declared[name]), name, declared[name])
    return params


def params_from_json(given: Any, declared: dict[str, str]) -> dict[str, Any] | None:
    """Return the `params` of a JSON request, checked; None if there are none.

    Raises:
        RefusalError: 400 if they are no object, or as `params_from_text` says.
    """
    if given is None:
        return None
    if not isinstance(given, dict):
        raise bad_params(
            "Expected 'params' to be a JSON object; leave it out if there are none. "
            f"This model has {described(declared)}."
        )
    check_names(given, declared)
    return {name: checked(value, name, declared[name]) for name, value in given.items()}


def from_text(text: str, dtype: str) -> Any:
    """Return text as a value of MLflow's `dtype`, or the text itself if it is none."""
    try:
        if dtype == "boolean":
            return TRUTHS.get(text.strip().lower(), text)
        if dtype in INTEGER_BITS:
            return int(text)
        if dtype in {"float", "double"}:
            return float(text)
    except ValueError:
        pass
    return text


def checked(value: Any, name: str, dtype: str) -> Any:
    """Return a value that fits MLflow's `dtype`.

    Raises:
        RefusalError: 400 if it does not fit.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if dtype == "boolean":
        fits = isinstance(value, bool)
    elif dtype in INTEGER_BITS:
        fits = isinstance(value, int) and number and abs(value) < 2 ** INTEGER_BITS[dtype]
    elif dtype in {"float", "double"}:
        fits = number and abs(value) < 2**63 and math.isfinite(value)
    elif dtype == "string":
        fits = isinstance(value, str)
    else:
        fits = True
    if not fits:
        raise bad_params(f"Expected the parameter {name} ({dtype}); received something else.")
    return value
