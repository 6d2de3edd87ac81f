"""Gates with real models in clean processes, and the command that stands on them, on SQLite."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
import yaml
from click.testing import CliRunner, Result

from scans.manifest import read_manifest
from steps.gates.comparison import Scan
from steps.gates.production import Margins, production_gates
from steps.gates.staging import Gate, StoredModel, staging_gates
from steps.promote import main
from steps.registry.client import Registry
from steps.registry.errors import RegistryError
from steps.registry.history import Move, history
from steps.registry.moves import make_move
from steps.registry.register import register
from tests.steps.promotion_models import EXTERNAL_TAG, variant, write_scans

LIMITS = Margins(0.1, 0.05, 0.95, 500, min_test_scans=10, external_auc_floor=0.5, seed=0)
ELSEWHERE = Gate("external", True, "good elsewhere")


def stored(folder: Path, scans: Path, number: int = 1, **metadata: object) -> StoredModel:
    known = {"classes": ["adenocarcinoma", "normal"], "phantom": False} | metadata
    rows = [Scan(row.sha256, row.label, row.group, row.split) for row in read_manifest(scans)]
    return StoredModel(number, folder, known, rows)


def results(gates: list[Gate]) -> dict[str, str]:
    return {gate.name: gate.result for gate in gates}


@pytest.mark.usefixtures("quick_gates")
def test_a_model_that_guesses_does_not_beat_the_baselines(
    textures: Path, scans: Path, tmp_path: Path
) -> None:
    guessing = variant(textures, tmp_path / "guessing", wrong=0.7)
    gates = staging_gates(stored(guessing, scans), scans)
    assert results(gates) == {"loads": "passed", "majority": "failed", "brightness": "failed"}
    assert gates[1].numbers["baseline"] == 0.5
    assert gates[1].numbers["n"] == 40
    assert f"{gates[1].numbers['balanced_accuracy']:.3f} does not beat 0.500" in gates[1].sentence


def test_a_model_that_cannot_be_loaded_without_the_project_fails(
    textures: Path, scans: Path, tmp_path: Path
) -> None:
    leaning = variant(textures, tmp_path / "leaning")
    (leaning / "code" / "model" / "__init__.py").write_text("from scans import WRONG\n")
    gates = staging_gates(stored(leaning, scans), scans)
    assert set(results(gates).values()) == {"failed"}
    assert "No module named 'scans'" in gates[0].sentence


@pytest.mark.usefixtures("quick_gates")
def test_a_model_without_example_fails_and_missing_scans_stop_only_the_baselines(
    textures: Path, scans: Path, tmp_path: Path
) -> None:
    bare = variant(textures, tmp_path / "bare")
    entries = yaml.safe_load((bare / "MLmodel").read_text())
    del entries["saved_input_example_info"]
    (bare / "MLmodel").write_text(yaml.safe_dump(entries))
    gates = staging_gates(stored(bare, scans), tmp_path / "nowhere")
    assert results(gates) == {"loads": "failed", "majority": "not run", "brightness": "not run"}
    assert "no input example" in gates[0].sentence


def test_production_gates_that_need_no_scoring(scans: Path, textures: Path, tmp_path: Path) -> None:
    def of(model: StoredModel, incumbent: StoredModel | None, through: bool) -> dict[str, str]:
        return results(
            production_gates(
                model,
                incumbent,
                through_staging=through,
                external=ELSEWHERE,
                data=scans,
                margins=LIMITS,
            )
        )

    fine = {"staging": "passed", "no phantom": "passed", "external": "passed"}
    alone = {"balanced accuracy": "passed", "sensitivity": "passed"}
    model = stored(textures, scans)
    assert of(model, None, True) == fine | alone
    assert of(model, None, False) == fine | alone | {"staging": "failed"}
    for phantom in (True, None):
        made = stored(textures, scans, phantom=phantom)
        assert of(made, None, True) == fine | alone | {"no phantom": "failed"}
    # an incumbent that was trained on all that the candidate is tested on
    swapped = [
        Scan(s.sha256, s.label, s.group, "train" if s.split == "test" else "test")
        for s in model.scans
    ]
    trained_on_test = StoredModel(2, textures, model.metadata, swapped)
    compared = {"balanced accuracy": "failed", "sensitivity": "failed"}
    assert of(model, trained_on_test, True) == fine | compared


def test_an_incumbent_that_is_gone_leaves_the_comparison_undone(
    scans: Path, textures: Path
) -> None:
    gates = production_gates(
        stored(textures, scans),
        RegistryError("The artefacts of version 2 cannot be read: FileNotFoundError"),
        through_staging=True,
        external=ELSEWHERE,
        data=scans,
        margins=LIMITS,
    )
    assert [gate.passed for gate in gates] == [True, True, True, None, None]
    assert "version 2 cannot be read" in gates[-1].sentence


def test_a_rollback_to_artefacts_that_are_gone_is_refused_unless_forced(
    add: Callable[..., int], promote: Callable[..., Result], request: pytest.FixtureRequest
) -> None:
    registry = Registry(request.node.name)
    for number in (add(), add(wrong=0.01)):
        make_move(
            registry,
            Move("promotion", number, "None", "Production", "ana", replaced=number - 1 or None),
        )
    run = mlflow.get_run(str(registry.read().versions[1].run_id))
    shutil.rmtree(Path(run.info.artifact_uri.removeprefix("file://")) / "registered_model")
    refused = promote("--rollback")
    assert refused.exit_code == 2
    assert "Version 1 would be put back, but its artefacts cannot be read" in refused.stderr
    assert registry.read().aliases == {"champion": 2}
    assert promote("--rollback", "--force", "--reason", "restored by hand").exit_code == 0
    assert registry.read().aliases == {"champion": 1}


@pytest.fixture
def add(
    local_registry: str, textures: Path, scans: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> Callable[..., int]:
    """Register a variant as the next version of a model named after the test."""

    def _add(data: Path = scans, external: bool = True, **changes: object) -> int:
        count = len(list(tmp_path.glob("variant*")))
        folder = variant(textures, tmp_path / f"variant{count}", **changes)  # type: ignore[arg-type]
        with mlflow.start_run():
            number = register(
                folder, name=request.node.name, scores={"n": 40}, manifest=data / "manifest.csv"
            )
        if external:
            Registry(request.node.name).set_version_tag(number, *EXTERNAL_TAG)
        return number

    return _add


@pytest.fixture
def promote(
    scans: Path, request: pytest.FixtureRequest, quick_gates: None
) -> Callable[..., Result]:
    """Run the command on the model named after the test."""

    def _promote(*arguments: str, data: Path = scans) -> Result:
        fixed = ["--registered-model-name", request.node.name, "--data", str(data)]
        result = CliRunner().invoke(main, [*arguments, *fixed, "--min-test-scans", "10"])
        assert result.exception is None or isinstance(result.exception, SystemExit), result
        assert result.exit_code != 2 or len(result.stderr.splitlines()) == 1, result.stderr
        return result

    return _promote


def test_from_nothing_to_production_a_worse_one_forced_and_back(
    add: Callable[..., int], promote: Callable[..., Result], request: pytest.FixtureRequest
) -> None:
    registry = Registry(request.node.name)
    assert add() == 1
    assert promote("--to", "Production").exit_code == 2  # nothing is in Staging
    assert promote("--to", "Staging").exit_code == 0
    assert promote("--to", "Production").exit_code == 0
    assert registry.read().aliases == {"champion": 1}

    assert add(wrong=0.35) == 2
    assert promote("--to", "Staging").exit_code == 0
    before = registry.read()
    refused = promote("--to", "Production")
    assert refused.exit_code == 1
    assert "failed   balanced accuracy: 0." in refused.stdout
    assert "against 1.000 on 40 of 40 test scans" in refused.stdout
    assert "passed   no phantom" in refused.stdout
    assert "Version 2 stays in Staging: 2 of 5 gates to Production failed" in refused.stderr
    after = registry.read()
    assert (after.aliases, after.tags) == (before.aliases, before.tags)
    assert [v.stage for v in after.versions.values()] == [v.stage for v in before.versions.values()]
    tags = after.versions[2].tags
    assert tags["gates.Production"] == "failed"
    assert tags["gates.Production.balanced accuracy"].startswith("failed: 0.")
    artefact = f"runs:/{after.versions[2].run_id}/{tags['gates.Production.artifact']}"
    report = {gate["name"]: gate for gate in mlflow.artifacts.load_dict(artefact)["gates"]}
    assert report["sensitivity"]["result"] == "failed"
    assert report["balanced accuracy"]["numbers"]["incumbent"] == 1.0

    forced = promote("--to", "Production", "--force", "--reason", "a drill")
    assert forced.exit_code == 0, forced.stderr
    assert "Version 1 of " in forced.stdout
    assert registry.read().aliases == {"champion": 2}
    assert promote("--rollback", "--reason", "end of the drill").exit_code == 0
    now = registry.read()
    assert now.aliases == {"champion": 1}
    assert [now.versions[n].stage for n in (1, 2)] == ["Production", "Archived"]
    assert promote("--rollback").exit_code == 2  # nothing before version 1

    told = promote("--history").stdout
    assert told.index("version 1: None → Staging") < told.index("version 1: Staging → Production")
    assert "version 2: Staging → Production  (promotion, forced)" in told
    assert "why: a drill" in told
    assert "version 1: Archived → Production  (rollback)" in told
    assert "balanced accuracy: failed: 0." in told
    assert [entry.kind for entry in history(now)] == [*["promotion"] * 4, "rollback"]


def test_a_model_of_phantoms_is_tried_and_nothing_else_is(
    add: Callable[..., int], promote: Callable[..., Result], request: pytest.FixtureRequest
) -> None:
    registry = Registry(request.node.name)
    add()
    refused = promote("--to", "trial")
    assert refused.exit_code == 1
    assert "failed   phantom: version 1 is not trained on phantoms" in refused.stdout
    assert registry.read().aliases == {}

    add(phantom=True, data_digest="d2")
    tried = promote("--to", "Trial")
    assert tried.exit_code == 0, tried.output
    assert f"(models:/{request.node.name}@trial). SYNTHETIC" in tried.stdout
    now = registry.read()
    assert now.aliases == {"trial": 2}
    assert {version.stage for version in now.versions.values()} == {"None"}
    assert "is in Trial already" in promote("--to", "Trial").stdout
    assert "version 2: alias trial  (promotion)" in promote("--history").stdout
    assert promote("--to", "Staging").exit_code == 0
    assert "failed   no phantom" in promote("--to", "Production").stdout
    assert registry.read().aliases == {"trial": 2, "challenger": 2}


def test_the_run_that_mlflow_made_for_a_promotion_says_how_it_ended(
    add: Callable[..., int], promote: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    add(external=False)
    client = mlflow.MlflowClient()
    (experiment,) = (e for e in client.search_experiments() if e.name == "chest-ct")
    for stage, status in (("Staging", "FINISHED"), ("Production", "FAILED")):
        made = client.create_run(experiment.experiment_id, run_name="bouncy-hawk-123")
        monkeypatch.setenv("MLFLOW_RUN_ID", made.info.run_id)
        assert promote("--to", stage).exit_code == (status == "FAILED")
        kept = client.get_run(made.info.run_id).info
        assert (kept.run_name, kept.status) == (f"promote · {stage}", status)


def test_a_version_needs_a_score_from_elsewhere(
    add: Callable[..., int], promote: Callable[..., Result], request: pytest.FixtureRequest
) -> None:
    name = request.node.name
    add(external=False)
    assert promote("--to", "Staging").exit_code == 0
    refused = promote("--to", "Production")
    assert refused.exit_code == 1
    assert f"-e external_evaluation -P model_uri=models:/{name}/1" in refused.stdout
    Registry(name).set_version_tag(1, *EXTERNAL_TAG)
    assert promote("--to", "Production", "--external-auc-floor", "0.95").exit_code == 1
    moved = promote("--to", "Production")
    assert moved.exit_code == 0
    assert "passed   external: AUC 0.930 on 306 scans of elsewhere" in moved.stdout


def test_only_scans_that_production_never_learned_from_are_compared(
    add: Callable[..., int],
    promote: Callable[..., Result],
    request: pytest.FixtureRequest,
    scans: Path,
    tmp_path: Path,
) -> None:
    add()
    promote("--to", "Staging")
    promote("--to", "Production")
    # the second version's test split: half of the first's training scans, and 20 of its own
    other = shutil.copytree(scans, tmp_path / "other")
    lines = (other / "manifest.csv").read_text().splitlines()
    changed = [
        line.replace(",train,", ",test,") if 0 < number <= 20 else
        line.replace(",test,", ",train,") if number > 60 else line
        for number, line in enumerate(lines)
    ]  # fmt: skip
    (other / "manifest.csv").write_text("\n".join(changed) + "\n")
    add(other, wrong=0.01)
    assert promote("--to", "Staging", data=other).exit_code == 0
    moved = promote("--to", "Production", data=other)
    assert moved.exit_code == 0, moved.output
    assert "on 20 of 40 test scans, those version 1 never saw" in moved.stdout


def test_scans_of_other_data_stop_the_promotion(
    add: Callable[..., int], promote: Callable[..., Result], tmp_path: Path
) -> None:
    add()
    elsewhere = write_scans(tmp_path / "elsewhere", first_seed=5000)
    result = promote("--to", "Staging", data=elsewhere)
    assert result.exit_code == 2
    assert "the gate 'majority' could not run: 40 of 40 scans" in result.stderr


def test_versions_and_stages_that_cannot_be_are_one_sentence(
    add: Callable[..., int], promote: Callable[..., Result], request: pytest.FixtureRequest
) -> None:
    assert "has no versions at sqlite" in promote("--to", "Staging").stderr
    add()
    assert "has no version 7; it has 1" in promote("--to", "Staging", "--version", "7").stderr
    assert "Name it with --version" in promote("--to", "Archived").stderr
    assert "nothing to roll back to" in promote("--rollback").stderr
    assert "No version" in promote("--history").stdout
    assert "Nothing to repair" in promote("--repair").stdout
    registry = Registry(request.node.name)
    registry.set_stage(1, "Production")
    assert "run python -m steps.promote --repair" in promote("--history").stderr
    repaired = promote("--repair")
    assert "alias champion was missing while version 1 is in Production" in repaired.stderr
    assert registry.read().aliases == {"champion": 1}
    refused = promote("--to", "Archived", "--version", "1")
    assert "would leave none there" in refused.stderr
    assert json.loads(json.dumps(registry.read().aliases)) == {"champion": 1}


def test_there_is_no_registry(
    promote: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/none.db")
    result = promote("--to", "Staging")
    assert result.exit_code == 2
    assert "There is no registry at sqlite" in result.stderr
    assert not (tmp_path / "none.db").exists()
