"""Names of metrics, tags and artefacts in MLflow, made from names that people chose.

MLflow takes letters, digits and `_-. :/` in a name, of at most 250 characters, and refuses a run
that uses others. Class names come from folders, so `Malignant, cases (left)` must fit.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

MAX_CHARACTERS = 250  # of a key; mlflow.utils.validation.MAX_ENTITY_KEY_LENGTH
DIGEST_CHARACTERS = 16
LONGEST_PREFIX = "score."  # what the registry puts before a score's name


def mlflow_name(*parts: str) -> str:
    """Join parts with dots to a name that MLflow takes; different parts get different names.

    A character that MLflow does not take, and the colon itself, becomes its code point in
    hexadecimal between colons: `a (b)` is `a :28:b:29:`. A name that would be too long ends in a
    digest of the whole instead.

    Args:
        parts: of the path, from the outermost; only one of them may be a person's choice, and the
            last is not, or a choice with a dot could be taken for two parts.
    """
    name = ".".join(re.sub(r"[^\w. -]", lambda c: f":{ord(c[0]):x}:", part) for part in parts)
    most = MAX_CHARACTERS - len(LONGEST_PREFIX)
    if len(name) <= most:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:DIGEST_CHARACTERS]
    return f"{name[: most - DIGEST_CHARACTERS - 2]}::{digest}"


def numbers(scores: Mapping[str, Any], *above: str) -> Iterator[tuple[str, float]]:
    """Yield each number in nested scores with its name in MLflow; lists are passed over."""
    for key, value in scores.items():
        if isinstance(value, Mapping):
            yield from numbers(value, *above, key)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield mlflow_name(*above, key), value


def class_tags(classes: Iterable[str]) -> dict[str, str]:
    """Return a run's tags `class.<name>` with the class's own name as value.

    Set before the work, they show at once whether the tracking server takes what the scores of
    this class will be called, and afterwards which class a metric is of.
    """
    return {mlflow_name("class", name): name for name in classes}
