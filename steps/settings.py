"""A stage's parameters: params.yaml, what this run changes, and the command line, in that order.

`mlflow run . -P name=value` changes a parameter for one run. The values stand in overrides.yaml
while the run lasts, where DVC sees them beside params.yaml, which nothing but an editor writes
(docs/adr/0003-parameters-take-one-path.md).
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from steps.errors import StageError
from steps.folders import write_whole
from steps.parameters import STAGES, Section, kind, parameters_of

PARAMS = Path("params.yaml")
OVERRIDES = "overrides.yaml"  # beside params.yaml
OVERRIDES_HEADER = """\
# Parameters that one run changes: `mlflow run . -P name=value` writes them here, so that DVC sees
# them, and empties the file when it ends. Values to keep belong in params.yaml.
"""

S = TypeVar("S", bound=Section)
Overrides = dict[str, dict[str, Any]]  # section to name to value


def read_settings(section: type[S], params: Path, given: Mapping[str, Any]) -> S:
    """Gather the parameters of a section.

    Args:
        section: its declaration.
        params: params.yaml; what it does not say, or all where the file is missing, has its
            default. overrides.yaml beside it comes next.
        given: values of the command line, which win; text or typed.

    Raises:
        StageError: a value that does not fit its declaration, or a name that is not declared.
    """
    values: dict[str, Any] = {}
    for path in (params, params.with_name(OVERRIDES)):
        found = _section_of_file(path, section.section)
        checked(section, found, f"{section.section}.", f" in {path}")
        values |= found
    checked(section, given)
    return checked(section, {**values, **given})


def checked(section: type[S], values: Mapping[str, Any], prefix: str = "", where: str = "") -> S:
    """Type the values of a section.

    Args:
        section: its declaration.
        values: by name.
        prefix: put before the name in an error.
        where: put after the expectation in an error: the file that the value is from.

    Raises:
        StageError: a value that does not fit its declaration, or a name that is not declared.
    """
    known = parameters_of(section)
    for name in values:
        if name not in known:
            raise StageError(unknown_parameter(name, known, where))
    try:
        return section.model_validate(dict(values))
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
        raise StageError(
            f"Expected {prefix}{name}{where} to be {kind(known[name])}; received "
            f"{values[name]!r}. Correct it and run again."
        ) from error


def unknown_parameter(name: str, known: Iterable[str], where: str = "") -> str:
    """Return the sentence about a name that is not declared, with the nearest one that is."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"Did you mean {near[0]}?" if near else f"Known: {', '.join(names)}."
    return f"There is no parameter {name!r}{where}. {hint}"


def overrides(given: Sequence[tuple[str, str]], params: Path) -> Overrides:
    """Find what a run of the whole pipeline changes.

    Args:
        given: names and values as typed. A name that several sections have (`seed`) sets all of
            them; of a name that is given twice the last value counts.
        params: params.yaml; a value that it has already is no change.

    Raises:
        StageError: params.yaml or a given value does not fit the declarations.
    """
    found: Overrides = {}
    known = {name for section in STAGES for name in parameters_of(section)}
    for name, _ in given:
        if name not in known:
            raise StageError(unknown_parameter(name, known))
    for section in STAGES:
        in_file = _section_of_file(params, section.section)
        present = checked(section, in_file, f"{section.section}.", f" in {params}")
        here = {name: value for name, value in given if name in parameters_of(section)}
        wanted = checked(section, here).model_dump(by_alias=True)
        before = present.model_dump(by_alias=True)
        found[section.section] = {n: wanted[n] for n in here if wanted[n] != before[n]}
    return found


@contextlib.contextmanager
def overridden(changes: Overrides, root: Path) -> Iterator[None]:
    """Keep a run's changes in overrides.yaml until the block ends.

    The empty file that replaces them is written before the block begins, so that a disk that has
    become full meanwhile cannot keep them there. What a killed run left is replaced by the next.
    """
    path, empty = root / OVERRIDES, root / ".dvc" / "tmp" / OVERRIDES
    empty.parent.mkdir(parents=True, exist_ok=True)
    nothing: Overrides = {section.section: {} for section in STAGES}
    write_whole(empty, _as_text(nothing))
    write_whole(path, _as_text(nothing | changes))
    try:
        yield
    finally:
        empty.replace(path)


def effective(changes: Overrides, params: Path) -> list[Section]:
    """Return the sections of a run of the whole pipeline, with what it changes."""
    return [
        checked(section, _section_of_file(params, section.section) | changes[section.section])
        for section in STAGES
    ]


def changed(settings: Section) -> dict[str, Any]:
    """Return the parameters of a section that differ from their declared defaults, by name."""
    declared = parameters_of(type(settings))
    values = settings.model_dump(by_alias=True)
    return {name: values[name] for name, field in declared.items() if values[name] != field.default}


def _as_text(changes: Overrides) -> str:
    changed: str = yaml.safe_dump(changes, sort_keys=False, allow_unicode=True)
    return OVERRIDES_HEADER + changed


def _section_of_file(path: Path, name: str) -> dict[str, Any]:
    """Return a section of a parameter file; {} where the file or the section is missing."""
    if not path.is_file():
        return {}
    try:
        sections = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        return dict(sections.get(name) or {})
    except (yaml.YAMLError, UnicodeDecodeError, AttributeError, TypeError, ValueError) as error:
        raise StageError(
            f"{path} cannot be read as sections of parameters: {str(error).splitlines()[0]}. "
            "Correct it, or take the committed one: git checkout " + path.name
        ) from error
