"""The options of a stage's command follow from the declarations of its parameters."""

from __future__ import annotations

import importlib
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from steps.main import main as pipeline
from steps.options import StageCommand, section_options
from steps.parameters import STAGES, DataIngestion, Training, kind, parameters_of

HARD = ["pay $HOME", 'a "b" `id`', "$(id); rm -rf *", "a\\b 'c'", "line\nbreak", "ü – 肺"]


@click.command(cls=StageCommand)
@section_options(Training)
def training(settings: Training) -> None:
    """Print what arrives."""
    click.echo(settings.model_dump_json())


@click.command(cls=StageCommand)
@section_options(DataIngestion)
def ingestion(settings: DataIngestion) -> None:
    """Print what arrives."""
    click.echo(settings.model_dump_json())


def received(*arguments: str) -> Training:
    done = CliRunner().invoke(training, list(arguments))
    assert done.exit_code == 0, done.stderr
    return Training.model_validate_json(done.stdout)


def test_the_command_line_wins_over_overrides_and_those_over_params_yaml(tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    params.write_text("training:\n  epochs: 50\n  views: 5\n  l2: 0.5\n")
    (tmp_path / "overrides.yaml").write_text("training:\n  epochs: 60\n  views: 6\n")
    settings = received("--params", str(params), "--epochs", "200")
    assert (settings.epochs, settings.views, settings.l2) == (200, 6, 0.5)
    assert settings.learning_rate == 0.1, "what no file says has its default"


def test_an_option_may_be_written_as_mlflow_writes_it() -> None:
    assert received("--learning_rate", "0.5").learning_rate == 0.5
    assert received("--learning-rate", "0.5").learning_rate == 0.5


@pytest.mark.parametrize("text", HARD)
def test_text_arrives_as_it_was_given(text: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(ingestion, ["--source", text, "--class_patterns", text])
    settings = DataIngestion.model_validate_json(done.stdout)
    assert settings.source == settings.class_patterns == text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--epoch", "5"], "There is no parameter 'epoch'. Did you mean epochs?"),
        (["--learningrate", "5"], "no parameter 'learningrate'. Did you mean learning_rate?"),
        (["--zzzz", "5"], "There is no parameter 'zzzz'. Known: "),
        (["--epochs", "none"], "Expected epochs to be a whole number, at least 1; received 'none'"),
    ],
)
def test_a_mistake_gets_one_sentence_and_exit_code_2(arguments: list[str], sentence: str) -> None:
    done = CliRunner().invoke(training, arguments)
    assert done.exit_code == 2
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1


COMMANDS = [
    "steps.data_ingestion", "steps.prepare_base_model", "steps.training.__main__",
    "steps.evaluation.__main__", "steps.evaluation.external", "steps.promote",
    "steps.registry.fetch", "batch.__main__", "serve.__main__",
]  # fmt: skip


@pytest.mark.parametrize("module", COMMANDS)
def test_help_shows_every_default(module: str) -> None:
    command = importlib.import_module(module).main
    shown = CliRunner().invoke(command, ["--help"], terminal_width=1000).stdout
    for option in command.params:
        flag = isinstance(option, click.Option) and option.is_flag and not option.secondary_opts
        given = isinstance(option.default, str | int | float | Path) and option.default != ""
        if isinstance(option, click.Argument) or flag or not given:
            continue
        about = shown[shown.index(f"\n  {option.opts[0]} ") :].split("\n  --")[1]
        assert "default: " in about, about


def test_help_of_the_pipeline_lists_the_parameters_of_all_stages() -> None:
    shown = " ".join(CliRunner().invoke(pipeline, ["--help"]).stdout.split())
    assert "[a whole number, at least 1; default: 200]" in shown
    for section in STAGES:
        assert f"Parameters of {section.section}:" in shown
        for name in parameters_of(section):
            assert f" {name} " in shown


def test_help_describes_every_parameter() -> None:
    shown = " ".join(CliRunner().invoke(training, ["--help"]).stdout.split())
    for name, field in parameters_of(Training).items():
        assert f"--{name.replace('_', '-')} " in shown
        assert kind(field) in shown
