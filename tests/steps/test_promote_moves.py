"""Moves on a real SQLite registry: whole or repaired, one at a time, recorded."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient

from steps.registry.client import Registry
from steps.registry.history import Move, claims, history, next_time
from steps.registry.moves import BusyError, claim, disagreements, make_move
from steps.registry.recovery import recover
from tests.steps.moving_processes import killed_mover, promotion, race

NAME = "chest-ct"
KILLED = -9


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database in which version 1 is in Production, 2 in Staging, 3 to 5 nowhere."""
    database = tmp_path_factory.mktemp("registry") / "mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
        client = MlflowClient()
        client.create_registered_model(NAME)
        for _ in range(5):
            client.create_model_version(NAME, source=str(database.parent))
        registry = Registry(NAME)
        for version, stage, alias in ((1, "Production", "champion"), (2, "Staging", "challenger")):
            registry.set_stage(version, stage)
            registry.set_alias(alias, version)
    return database


@pytest.fixture
def env(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, str]]:
    """The variables that lead to a copy of the template; set in this process too."""
    shutil.copy(template, tmp_path / "mlflow.db")
    variables = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}
    monkeypatch.setenv(*next(iter(variables.items())))
    return variables


def test_a_trial_that_died_is_finished_or_forgotten(env: dict[str, str]) -> None:
    registry = Registry(NAME)
    begun = Move("promotion", 3, "None", "Trial", "ana", when=next_time(registry.read()), pid=2**22)
    registry.set_tag(begun.claim_key, begun.to_json())
    said: list[str] = []
    assert recover(registry, "ben", said.append)
    assert "had changed nothing and is forgotten" in said[-1]
    registry.set_tag(begun.claim_key, begun.to_json())
    registry.set_alias("trial", 3)
    assert recover(registry, "ben", said.append)
    assert "finished the move of version 3 to Trial" in said[-1]
    now = registry.read()
    assert now.aliases["trial"] == 3 and now.versions[3].stage == "None"
    assert [(move.version, move.to) for move in history(now)] == [(3, "Trial")]
    assert_in_step(registry, production=1)


def assert_in_step(registry: Registry, production: int) -> None:
    now = registry.read()
    assert now.in_stage("Production") == [production]
    assert now.aliases["champion"] == production
    assert disagreements(now) == []
    assert claims(now) == []


def test_a_move_archives_the_previous_version_keeps_aliases_in_step_and_is_recorded(
    env: dict[str, str], recwarn: pytest.WarningsRecorder
) -> None:
    registry = Registry(NAME)
    make_move(registry, promotion(2, replaced=1, source="Staging"))
    assert_in_step(registry, 2)
    now = registry.read()
    assert now.versions[1].stage == "Archived"
    assert now.aliases == {"champion": 2}  # nothing is in Staging any more
    (entry,) = history(now)
    assert (entry.version, entry.source, entry.to, entry.replaced) == (
        2,
        "Staging",
        "Production",
        1,
    )
    assert (entry.who, entry.why) == ("ana", "because")
    assert not [w for w in recwarn if "stage" in str(w.message)]  # MLflow's deprecation warning


@pytest.mark.parametrize("changes", [{"source": "Archived"}, {"replaced": None}, {"version": 9}])
def test_a_move_whose_assumptions_no_longer_hold_changes_nothing(
    env: dict[str, str], changes: dict[str, object]
) -> None:
    registry = Registry(NAME)
    before = registry.read()
    with pytest.raises(BusyError, match="The registry changed"):
        make_move(registry, replace(promotion(2, replaced=1, source="Staging"), **changes))
    assert registry.read() == before


# The writes of this move: claim, stage, champion, challenger dropped, history, claim dropped.
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("write", range(6))
def test_killed_at_any_write_the_next_command_repairs(
    env: dict[str, str], write: int, after: bool
) -> None:
    assert killed_mover(env, NAME, write, after=after) == KILLED
    registry, said = Registry(NAME), []
    began = write > 0 or after
    moved = write > 1 or (write == 1 and after)
    finished = write == 5 and after
    assert recover(registry, "ben", said.append) == (began and not finished)
    assert_in_step(registry, 2 if moved else 1)
    assert [entry.version for entry in history(registry.read())] == ([2] if moved else [])
    assert len(said) == (1 if began and not finished else 0)
    assert not recover(registry, "ben", said.append)


def test_there_is_no_seventh_write(env: dict[str, str]) -> None:
    assert killed_mover(env, NAME, 6, after=False) == 0
    assert_in_step(Registry(NAME), 2)


@pytest.mark.parametrize("attempt", range(4))
def test_of_three_promotions_at_once_exactly_one_is_made(env: dict[str, str], attempt: int) -> None:
    won = race(env, NAME, (3, 4, 5))
    registry = Registry(NAME)
    (winner,) = [version for version in won if version is not None]
    assert_in_step(registry, winner)
    assert [entry.version for entry in history(registry.read())] == [winner]


def test_a_claim_from_elsewhere_is_waited_for_and_then_taken_for_dead(env: dict[str, str]) -> None:
    registry, said = Registry(NAME), []
    foreign = replace(
        promotion(2, replaced=1), host="another-machine", when="2026-01-01T00-00-00.000000Z"
    )
    registry.set_tag(foreign.claim_key, foreign.to_json())
    with pytest.raises(BusyError, match="ana on another-machine is moving version 2"):
        make_move(registry, promotion(3, replaced=1), patience_s=0.1)
    assert recover(registry, "ben", said.append, patience_s=0.1)
    assert "Waiting for ana" in said[0]
    assert "had changed nothing" in said[1]
    make_move(registry, promotion(3, replaced=1))
    assert_in_step(registry, 3)


def test_changes_made_outside_are_mended_and_recorded(env: dict[str, str]) -> None:
    client, registry, said = MlflowClient(), Registry(NAME), []
    with pytest.warns(FutureWarning, match="transition_model_version_stage"):
        client.transition_model_version_stage(NAME, "3", "Production")
    assert registry.read().in_stage("Production") == [1, 3]
    assert recover(registry, "ben", said.append)
    assert_in_step(registry, 1)  # it has the alias
    with pytest.warns(FutureWarning, match="transition_model_version_stage"):
        client.transition_model_version_stage(
            NAME, "4", "Production", archive_existing_versions=True
        )
    client.set_registered_model_alias(NAME, "challenger", "5")
    assert recover(registry, "ben", said.append)
    assert_in_step(registry, 4)
    assert registry.read().aliases["challenger"] == 2
    entries = history(registry.read())
    assert [(entry.kind, entry.version, entry.who) for entry in entries] == [
        ("repair", 1, "ben"),
        ("repair", 2, "ben"),
    ]
    assert "changed outside of promotion" in entries[1].why
    assert "alias champion was on version 1 while version 4" in entries[1].why


def test_a_claim_is_left_behind_by_an_error_and_finished_later(env: dict[str, str]) -> None:
    registry = Registry(NAME)
    move = replace(
        promotion(2, replaced=1, source="Staging"), pid=2**22 + os.getpid()
    )  # no process
    with pytest.raises(RuntimeError), claim(registry, move):
        registry.set_stage(2, "Production")
        raise RuntimeError
    assert claims(registry.read())
    said: list[str] = []
    assert recover(registry, "ben", said.append)
    assert "finished the move of version 2 to Production that ana began" in said[0]
    assert_in_step(registry, 2)
