"""The click options of a stage's command, made from the declarations of its parameters."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from steps.errors import StageError
from steps.parameters import STAGES, Section, kind, parameters_of
from steps.settings import PARAMS, read_settings, unknown_parameter

Function = Callable[..., Any]


class SettingsError(click.ClickException):
    """A parameter that does not fit its declaration; exit code 2, as for click's own errors."""

    exit_code = 2


class StageCommand(click.Command):
    """A command whose options may be written with `-` or `_`, and that knows what was meant."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take `--image_size_px`, as MLflow writes `-P image_size_px=…`, for `--image-size-px`."""
        super().__init__(*args, **kwargs)
        self.context_settings["token_normalize_func"] = lambda name: name.replace("_", "-")
        self.context_settings["show_default"] = True

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse, and name the nearest parameter where an option is unknown."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            known = [str(parameter.name) for parameter in self.params if parameter.name]
            name = error.option_name.lstrip("-").replace("-", "_")
            raise SettingsError(unknown_parameter(name, known)) from error


def section_options(section: type[Section]) -> Callable[[Function], Function]:
    """Give a command an option per parameter of a section, and `--params`.

    The decorated function receives `settings`, an instance of the section: params.yaml,
    overrides.yaml beside it and the options of the command line, the last of which wins.
    """
    declared = parameters_of(section)

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def wrapper(*, params: Path, **options: Any) -> Any:
            given = {name: options.pop(name) for name in declared}
            given = {name: value for name, value in given.items() if value is not None}
            try:
                settings = read_settings(section, params, given)
            except StageError as error:
                raise SettingsError(str(error)) from error
            return function(settings=settings, **options)

        decorated: Function = wrapper
        for name, field in reversed(declared.items()):
            text = f"{field.description} [{kind(field)}; default: {_typed(field.default)}]"
            decorated = click.option(f"--{name.replace('_', '-')}", help=text)(decorated)
        return click.option(
            "--params",
            type=click.Path(path_type=Path, dir_okay=False),
            default=PARAMS,
            help=f"File whose section `{section.section}` has the parameters that are not given.",
        )(decorated)

    return decorate


def folder_option(name: str, default: str, text: str) -> Callable[[Function], Function]:
    """Give a command the option `--name`, a folder."""
    return click.option(
        f"--{name}",
        type=click.Path(path_type=Path, file_okay=False),
        default=Path(default),
        help=text,
    )


class PipelineCommand(click.Command):
    """A command that takes name=value for the parameters of all stages, and lists them."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the parameters of every stage with what they take and their defaults."""
        for section in STAGES:
            rows = [
                (name, f"{field.description} [{kind(field)}; default: {_typed(field.default)}]")
                for name, field in parameters_of(section).items()
            ]
            with formatter.section(f"Parameters of {section.section}"):
                formatter.write_dl(rows)


def _typed(value: object) -> str:
    """Return a value as it is typed on the command line."""
    return str(value).lower() if isinstance(value, bool) else str(value) or "empty"
