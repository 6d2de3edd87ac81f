"""The rules of promotion that need no registry: which version stays, which scans count."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from PIL import Image

from steps import promote as command
from steps.evaluation.baselines import brightness_baseline, majority_baseline
from steps.gates.comparison import (
    MissingScansError,
    Scan,
    answered_accuracy,
    paired_bootstrap,
    scan_files,
    scans_unseen_by,
    sensitivity,
)
from steps.gates.production import Margins
from steps.gates.staging import invalid_row
from steps.promote import stage_named, version_named
from steps.registry.client import Snapshot, Version
from steps.registry.errors import RegistryError
from steps.registry.history import Move, history, next_time, previous_production
from steps.registry.moves import disagreements
from tests.steps.promotion_models import write_scans


def snapshot(
    stages: dict[int, str], aliases: dict[str, int] | None = None, moves: tuple[Move, ...] = ()
) -> Snapshot:
    versions = {n: Version(n, stage, None, {}, updated_ms=n) for n, stage in stages.items()}
    tags = {move.history_key: move.to_json() for move in moves}
    return Snapshot(versions, aliases or {}, tags)


def to_production(*entries: tuple[str, int]) -> tuple[Move, ...]:
    return tuple(
        Move(kind, version, "Staging", "Production", "ana", when=f"2026-01-0{day + 1}T00-00-00.0Z")
        for day, (kind, version) in enumerate(entries)
    )


@pytest.mark.parametrize(
    ("stages", "aliases", "written"),
    [
        ({1: "Production"}, {"champion": 1}, []),
        ({1: "Production"}, {}, [(None, "champion", 1)]),
        ({1: "Archived", 2: "Production"}, {"champion": 1}, [(None, "champion", 2)]),
        ({1: "Archived"}, {"champion": 1}, [(None, "champion", None)]),
        ({1: "Staging"}, {"challenger": 1, "champion": 1}, [(None, "champion", None)]),
        # two in one stage: the one with the alias stays; without an alias the one changed last
        ({1: "Production", 2: "Production"}, {"champion": 1}, [("Production", None, 1)]),
        (
            {1: "Production", 2: "Production"},
            {},
            [("Production", None, 2), (None, "champion", 2)],
        ),
    ],
)
def test_the_stage_is_right_and_the_alias_follows(
    stages: dict[int, str], aliases: dict[str, int], written: list[tuple[object, ...]]
) -> None:
    fixes = disagreements(snapshot(stages, aliases))
    assert [(fix.stage, fix.alias, fix.version) for fix in fixes] == written


def test_of_two_in_production_the_one_that_a_move_in_progress_put_there_stays() -> None:
    both = snapshot({1: "Production", 2: "Production"}, {"champion": 2})
    claim = Move("promotion", 1, "Staging", "Production", "ana")
    both.tags[claim.claim_key] = claim.to_json()
    fixes = disagreements(both)
    assert [(fix.stage, fix.alias, fix.version) for fix in fixes] == [
        ("Production", None, 1),
        (None, "champion", 1),
    ]


@pytest.mark.parametrize(
    ("moves", "now", "back_to"),
    [
        ([], 1, None),
        ([("promotion", 1)], 1, None),
        ([("promotion", 1), ("promotion", 2)], 2, 1),
        ([("promotion", 1), ("promotion", 2), ("promotion", 3)], 3, 2),
        ([("promotion", 1), ("promotion", 2), ("promotion", 3), ("rollback", 2)], 2, 1),
        ([("promotion", 1), ("promotion", 2), ("rollback", 1)], 1, None),
        ([("promotion", 1), ("promotion", 2), ("rollback", 1), ("promotion", 3)], 3, 1),
        ([("promotion", 1), ("promotion", 2), ("repair", 3)], 3, 2),
        ([("promotion", 1), ("promotion", 9), ("promotion", 2)], 2, 1),  # 9 was deleted since
        ([("promotion", 1), ("promotion", 2)], None, 2),  # archived by hand: back to the last one
    ],
)
def test_rollback_goes_one_further_back_each_time(
    moves: list[tuple[str, int]], now: int | None, back_to: int | None
) -> None:
    stages = {n: "Production" if n == now else "Archived" for n in (1, 2, 3)}
    assert previous_production(snapshot(stages, moves=to_production(*moves))) == back_to


def test_a_clock_that_is_slow_does_not_reorder_the_history() -> None:
    far = replace(to_production(("promotion", 1))[0], when="2999-01-01T00-00-00.000000Z")
    assert next_time(snapshot({1: "Production"}, moves=(far,))) > far.when
    assert next_time(snapshot({1: "Production"})) < far.when


def test_a_history_entry_that_was_edited_by_hand_is_named() -> None:
    broken = snapshot({1: "Production"})
    broken.tags["history.2026.x"] = json.dumps(["not", "a", "move"])
    with pytest.raises(RegistryError, match=r"'history\.2026\.x'"):
        history(broken)


def test_each_recorded_move_fits_a_registered_models_tag() -> None:
    gates = dict.fromkeys(("staging", "no phantom", "balanced accuracy", "fourth"), "x" * 400)
    move = Move("promotion", 10**6, "Production", "Archived", "a" * 100, "y" * 500, gates=gates)
    assert len(replace(move, when=next_time(snapshot({}))).to_json()) <= 5000  # MLflow's column


# ---- the scans that both models are scored on


def scan(name: str, group: int, split: str, label: str = "normal") -> Scan:
    return Scan(name, label, str(group), split)


def test_what_the_incumbent_learned_from_is_left_out_with_its_near_duplicates() -> None:
    incumbent = [
        scan("a", 1, "train"),
        scan("b", 2, "validation"),
        scan("c", 3, "test"),
        scan("e", 4, "train"),
    ]
    candidate = [
        scan("a", 7, "test"),  # the incumbent trained on it
        scan("a2", 7, "test"),  # near-duplicate of it
        scan("b", 8, "test"),  # the incumbent was tuned on it
        scan("c", 9, "test"),  # tested on by both
        scan("d", 10, "test"),  # new
        scan("f", 11, "test"),  # tied to e by f's group
        scan("e", 11, "train"),
        scan("g", 12, "train"),  # new, but the candidate learned from it
    ]
    assert [one.sha256 for one in scans_unseen_by(incumbent, candidate)] == ["c", "d"]


def test_ties_run_through_the_groups_of_both_manifests() -> None:
    incumbent = [scan("x", 1, "train"), scan("y", 1, "train")]
    candidate = [scan("y", 5, "test"), scan("z", 5, "test"), scan("free", 1, "test")]
    assert [one.sha256 for one in scans_unseen_by(incumbent, candidate)] == ["free"]


def test_scans_are_found_by_content_and_checked(tmp_path: Path) -> None:
    data = write_scans(tmp_path / "data", train=2, test=2)
    digest = hashlib.sha256((data / "3.png").read_bytes()).hexdigest()
    wanted = [scan(digest, 1, "test")]
    assert scan_files(wanted, data) == [data / "3.png"]
    (data / "3.png").write_bytes(b"something else")
    with pytest.raises(MissingScansError, match="1 of 1 scans"):
        scan_files(wanted, data)
    with pytest.raises(MissingScansError, match="--data"):
        scan_files(wanted, tmp_path / "nowhere")


# ---- scores


def test_balanced_accuracy_and_sensitivity_count_a_missing_answer_as_wrong() -> None:
    labels = ["normal"] * 6 + ["tumour"] * 2
    assert answered_accuracy(labels, [*["normal"] * 6, "tumour", None]) == pytest.approx(0.75)
    assert sensitivity(labels, [*["normal"] * 6, "tumour", None]) == 0.5
    four = ["normal", "a", "b", "c"]
    assert sensitivity(four, ["normal", "b", "a", "c"]) == 1  # diseased, if of the wrong kind
    assert sensitivity(["a", "a", "b"], ["a", "b", "b"]) == 0.5  # no healthy class: lowest recall


def bootstrap(scans: list[Scan], new: list[str], old: list[str], seed: int = 0) -> float:
    predictions = {"candidate": new, "incumbent": old}
    return paired_bootstrap(
        scans, predictions, confidence=0.95, replicates=2000, seed=seed
    ).lower_bound


def test_paired_bootstrap() -> None:
    scans = [scan(str(n), n, "test", "normal" if n % 2 else "tumour") for n in range(100)]
    right = [one.label for one in scans]
    wrong_ten = ["?" if n < 10 else label for n, label in enumerate(right)]
    assert bootstrap(scans, right, right) == 0  # paired: equal answers have no uncertainty
    worse = bootstrap(scans, wrong_ten, right)
    # 10 of 100 fall: the normal approximation's bound is -0.1 - 1.645 * sqrt(0.1 * 0.9 / 100)
    assert worse == pytest.approx(-0.149, abs=0.015)
    assert bootstrap(scans, right, wrong_ten) > 0
    assert bootstrap(scans, wrong_ten, right) == worse  # the seed decides
    pairs = [replace(one, group=str(int(one.group) // 4)) for one in scans]
    assert bootstrap(pairs, wrong_ten, right) < worse  # near-duplicates are not independent


def test_baselines() -> None:
    assert majority_baseline(["b", "a", "b"], 2) == ["b", "b"]
    assert majority_baseline(["b", "a"], 1) == ["a"]

    def grey(level: int) -> bytes:
        file = io.BytesIO()
        noise = np.random.default_rng(level).integers(-9, 9, (40, 40))
        Image.fromarray((level + noise).astype(np.uint8)).save(file, "PNG")
        return file.getvalue()

    train = [grey(level) for level in (40, 45, 50, 55, 60, 200, 205, 210, 215, 220)]
    labels = ["dark"] * 5 + ["light"] * 5
    assert brightness_baseline(train, labels, [grey(207), grey(52)]) == ["light", "dark"]


GOOD_ROW = {"label": "a", "probability": 0.7, "p_a": 0.7, "p_b": 0.3, "error": None}


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        (GOOD_ROW, None),
        (GOOD_ROW | {"out_of_domain": None}, None),
        ({k: v for k, v in GOOD_ROW.items() if k != "error"}, "expected the columns"),
        (GOOD_ROW | {"error": "expected an image"}, "expected an image"),
        (GOOD_ROW | {"label": "c"}, "'c' is none of a, b"),
        (GOOD_ROW | {"label": None}, "None is none of"),
        (GOOD_ROW | {"p_b": 0.5}, "sum to 1.2"),
        (GOOD_ROW | {"p_b": None}, "from 0 to 1"),
        (GOOD_ROW | {"probability": 0.3}, "not that of its label"),
    ],
)
def test_a_row_is_valid_or_the_complaint_says_why(
    row: dict[str, object], complaint: str | None
) -> None:
    found = invalid_row(row, ["a", "b"])
    assert found is None if complaint is None else complaint in str(found)


# ---- the command line


def test_stages_and_versions_are_read_forgivingly_and_misspelt_ones_corrected() -> None:
    assert stage_named("production") == "Production"
    with pytest.raises(RegistryError, match="did you mean Production"):
        stage_named("Prodution")
    with pytest.raises(RegistryError, match="The stages are"):
        stage_named("xyz")
    assert version_named("auto") is None
    assert version_named("12") == 12
    with pytest.raises(RegistryError, match="received 'v3'"):
        version_named("v3")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "Say one of --to STAGE"),
        (["--to", "Staging", "--rollback"], "Say one of --to STAGE"),
        (["--to", "Staging", "--force"], "--force needs a reason"),
        (["--to", "Staging", "--reason", "x" * 501], "at most 500 characters, received 501"),
        (["--to", "Stagin"], "did you mean Staging"),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_code_2(arguments: list[str], sentence: str) -> None:
    result = CliRunner().invoke(command.main, arguments)
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_the_parameter_file_sets_values_and_the_command_line_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Margins] = []
    monkeypatch.setattr(command, "_connect", lambda name: name)
    monkeypatch.setattr(
        command, "_change", lambda _, request, *rest, **more: seen.append(request.margins) or []
    )
    file = tmp_path / "params.yaml"
    file.write_text("promote:\n  seed: 7\n  confidence: 0.9\n")
    arguments = ["--to", "Staging", "--params", str(file), "--seed", "8"]
    assert CliRunner().invoke(command.main, arguments).exit_code == 0
    assert (seen[0].seed, seen[0].confidence) == (8, 0.9)
    file.write_text("promote:\n  sed: 7\n")
    refused = CliRunner().invoke(command.main, arguments)
    assert refused.exit_code == 2
    assert "There is no parameter 'sed'" in refused.stderr
    assert "Did you mean seed?" in refused.stderr


def test_the_command_and_mlproject_agree() -> None:
    root = Path(command.__file__).resolve().parents[1]
    options = {p.name: p for p in command.main.params if isinstance(p, click.Option)}
    entry = yaml.safe_load((root / "MLproject").read_text())["entry_points"]["promote"]
    for name, declared in entry["parameters"].items():
        assert f"--{name} {{{name}}}" in entry["command"]
        if "default" in declared:
            assert str(options[name].default) == declared["default"]
    assert "default" not in entry["parameters"]["to"]
