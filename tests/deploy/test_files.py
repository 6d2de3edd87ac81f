"""What can be said about the deployment's files without running a container."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.conftest import ROOT

PRODUCTION = "models:/chest-ct/Production"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
SCRIPTS = sorted((ROOT / "deploy").glob("*.sh"))
DOCKERFILES = [ROOT / "Dockerfile", *sorted((ROOT / "deploy").rglob("Dockerfile"))]


def run_checker(name: str, *arguments: str | Path) -> None:
    """Run a checker that requirements-dev.txt installs; its findings fail the test."""
    program = shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert program, f"expected {name}: python -m pip install -r requirements-dev.txt"
    done = subprocess.run([program, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def load(path: Path) -> Any:
    """Read a YAML file; `on:` stays a word."""
    return yaml.load(path.read_text(), Loader=yaml.BaseLoader)  # strings only


def steps_of(workflow: Path) -> list[dict[str, Any]]:
    return [step for job in load(workflow)["jobs"].values() for step in job["steps"]]


def test_actionlint_finds_nothing() -> None:
    run_checker("actionlint", "-shellcheck", shutil.which("shellcheck") or "shellcheck")


@pytest.mark.parametrize("persona", ["regular", "pedantic"])
def test_zizmor_finds_nothing(persona: str) -> None:
    run_checker("zizmor", "--offline", "--no-progress", "--persona", persona, ".github")


def test_workflows_compose_and_dependabot_follow_their_schemas() -> None:
    check = "check-jsonschema"
    run_checker(check, "--builtin-schema", "vendor.github-workflows", *WORKFLOWS)
    run_checker(check, "--builtin-schema", "vendor.compose-spec", "deploy/compose.yaml")
    run_checker(check, "--builtin-schema", "vendor.dependabot", ".github/dependabot.yml")


def test_hadolint_finds_nothing() -> None:
    run_checker("hadolint", *DOCKERFILES)


def test_shellcheck_finds_nothing() -> None:
    run_checker("shellcheck", *SCRIPTS)


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_to_a_commit_and_say_the_version(workflow: Path) -> None:
    used = re.findall(r"uses: (.*)", workflow.read_text())
    assert used
    for action in used:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action


def test_secrets_are_the_agreed_ones() -> None:
    text = "".join(path.read_text() for path in WORKFLOWS)
    assert set(re.findall(r"secrets\.(\w+)", text)) == {
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_REGION",
        "AWS_ECR_LOGIN_URI",
        "ECR_REPOSITORY_NAME",
        "MLFLOW_TRACKING_USERNAME",
        "MLFLOW_TRACKING_PASSWORD",
    }


def test_pull_requests_reach_neither_a_secret_nor_the_instance() -> None:
    for workflow in WORKFLOWS:
        content = load(workflow)
        if "pull_request" in content["on"]:
            assert "secrets." not in workflow.read_text()
            assert all("self-hosted" not in job["runs-on"] for job in content["jobs"].values())
        assert not {"pull_request_target", "workflow_run"} & set(content["on"])
    deploy = load(ROOT / ".github/workflows/deploy.yml")
    assert set(deploy["on"]) == {"push", "workflow_dispatch"}
    assert all("environment" in job for job in deploy["jobs"].values())


def test_what_is_deployed_is_what_the_registrys_production_names() -> None:
    workflow = load(ROOT / ".github/workflows/deploy.yml")
    text = (ROOT / ".github/workflows/deploy.yml").read_text()
    assert workflow["on"]["workflow_dispatch"]["inputs"]["model_uri"]["default"] == PRODUCTION
    assert not re.search(r"steps\.main|steps\.training|dvc repro|mlflow run|steps\.promote", text)
    steps = workflow["jobs"]["image"]["steps"]
    fetches = next(i for i, s in enumerate(steps) if "steps.registry.fetch" in s.get("run", ""))
    assert steps[fetches]["env"]["MODEL_URI"] == f"${{{{ inputs.model_uri || '{PRODUCTION}' }}}}"
    folder = re.search(r'fetch "\$MODEL_URI" (\S+)\)', steps[fetches]["run"])
    builds = next(i for i, s in enumerate(steps) if "smoke.sh --build" in s.get("run", ""))
    assert folder and f"--build-arg MODEL={folder[1]}" in steps[builds]["run"]
    assert builds > fetches
    # An image is known by its code and its model, so that a way back is to both.
    assert 'tag=$GITHUB_SHA-v$version"' in steps[fetches]["run"]
    deployed = workflow["jobs"]["deploy"]["steps"][-1]["env"]["TAG"]
    assert deployed == "${{ inputs.image_tag || needs.image.outputs.tag }}"


def test_credentials_are_seen_by_the_steps_that_need_them() -> None:
    steps = load(ROOT / ".github/workflows/deploy.yml")["jobs"]["image"]["steps"]
    registry = [s for s in steps if "MLFLOW_TRACKING_PASSWORD" in json.dumps(s)]
    assert len(registry) == 1 and "steps.registry.fetch" in registry[0]["run"]
    builds = next(i for i, s in enumerate(steps) if "smoke.sh --build" in s.get("run", ""))
    signs_in = [i for i, step in enumerate(steps) if "aws-actions/" in step.get("uses", "")]
    assert len(signs_in) == 2
    assert min(signs_in) > builds
    assert all("secrets.AWS" not in json.dumps(step) for step in steps[: builds + 1])


def test_training_registers_a_candidate_and_moves_none() -> None:
    workflow = load(ROOT / ".github/workflows/train.yml")
    text = (ROOT / ".github/workflows/train.yml").read_text()
    assert set(workflow["on"]) == {"push", "workflow_dispatch"}
    assert workflow["on"]["push"]["branches"] == ["main"]
    (job,) = workflow["jobs"].values()
    assert job["environment"] == "train" and job["runs-on"].startswith("ubuntu")
    trains = job["steps"][-1]["run"]
    assert "python -m steps.main register=true" in trains
    assert "${{" not in trains  # what a person typed reaches the shell as a variable
    assert not re.search("run:.*steps.promote|AWS_|docker|deploy.sh", text)


@pytest.mark.parametrize("name", ["docs/deploy.md", "deploy/.env.example", "deploy/compose.yaml"])
def test_the_trial_systems_passwords_are_copied_to_a_private_file(
    name: str, tmp_path: Path
) -> None:
    (command,) = re.findall(r"install -m 600 deploy/\S+ deploy/\.env\b", (ROOT / name).read_text())
    assert "cp deploy/.env" not in (ROOT / name).read_text()
    (tmp_path / "deploy").mkdir()
    shutil.copy(ROOT / "deploy/.env.example", tmp_path / "deploy")
    subprocess.run(command.split(), cwd=tmp_path, check=True)
    assert (tmp_path / "deploy/.env").stat().st_mode & 0o777 == 0o600


def test_ci_runs_the_commands_a_developer_runs() -> None:
    tests = load(ROOT / ".github/workflows/ci.yml")["jobs"]["tests"]
    assert tests["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
    commands = [step.get("run") for step in tests["steps"]]
    assert "python -m pip install -r requirements-dev.txt && pytest" in commands


def test_both_workflows_build_on_the_same_base() -> None:
    bases = {
        job["env"]["PYTHON_IMAGE"]
        for workflow in WORKFLOWS
        for job in load(workflow)["jobs"].values()
        if "PYTHON_IMAGE" in job.get("env", {})
    }
    assert len(bases) == 1
    name, digest = bases.pop().split("@")
    assert f"ARG PYTHON_IMAGE={name}\n" in (ROOT / "Dockerfile").read_text()
    assert re.fullmatch("sha256:[0-9a-f]{64}", digest)


def requirements(path: Path) -> dict[str, str]:
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    return dict(line.split("==") for line in lines if "==" in line and ";" not in line)


def test_an_image_without_a_model_has_what_the_projects_models_require() -> None:
    from model.packaging import REQUIREMENTS

    ours = requirements(ROOT / "requirements.txt")
    serving = requirements(ROOT / "deploy/no-model/requirements.txt")
    assert serving == {name: ours[name] for name in REQUIREMENTS}


def test_the_tracking_server_has_the_projects_versions() -> None:
    ours = requirements(ROOT / "requirements.txt")
    server = requirements(ROOT / "deploy/mlflow-server/requirements.txt")
    assert server["mlflow"] == ours["mlflow"]


def test_compose_has_no_password_and_opens_no_port_to_others() -> None:
    compose = load(ROOT / "deploy/compose.yaml")
    example = dict(
        line.split("=", 1)
        for line in (ROOT / "deploy/.env.example").read_text().splitlines()
        if line and not line.startswith("#")
    )
    assert set(example.values()) == {""}
    for name, service in compose["services"].items():
        assert all(p.startswith("127.0.0.1:") for p in service.get("ports", [])), name
        for variable, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|KEY", variable):
                wanted = re.fullmatch(r"\$\{(\w+)(:\?.*)?\}", value)
                assert wanted, f"{name}: {variable}"
                assert wanted[1] in example
    required = set(re.findall(r"\$\{(\w+)[:}](?!-)", (ROOT / "deploy/compose.yaml").read_text()))
    assert required == set(example)


def test_compose_serves_what_may_be_tried_and_does_not_restart_for_ever() -> None:
    app = load(ROOT / "deploy/compose.yaml")["services"]["app"]
    assert app["environment"]["MODEL_URI"] == "${MODEL_URI:-models:/chest-ct@trial}"
    assert re.fullmatch(r"on-failure:\d+", app["restart"])


def test_iam_policies_are_json_and_name_no_account() -> None:
    policies = sorted((ROOT / "deploy/iam").glob("*.json"))
    assert policies
    for policy in policies:
        content = json.loads(policy.read_text())
        assert content["Version"] == "2012-10-17"
        for statement in content["Statement"]:
            assert statement.get("Action") not in ("*", ["*"])
        assert not re.search(r":(?!123456789012)\d{12}:", policy.read_text())


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not on PATH")
    unit = (ROOT / "deploy/chest-ct.service").read_text()
    # The check wants the program to exist, which it need not on this machine.
    (tmp_path / "chest-ct.service").write_text(unit.replace("/usr/bin/docker", "/bin/true"))
    (tmp_path / "docker.service").write_text("[Service]\nExecStart=/bin/true\n")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / "chest-ct.service")],
        capture_output=True,
        text=True,
        env=os.environ | {"SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
    )
    assert done.returncode == 0, done.stderr
    assert "chest-ct.service" not in done.stderr


def test_the_unit_confines_the_container_as_the_script_does() -> None:
    unit = (ROOT / "deploy/chest-ct.service").read_text()
    script = (ROOT / "deploy/deploy.sh").read_text()
    for option in [
        "--read-only",
        "--tmpfs /tmp",
        "--cap-drop ALL",
        "--security-opt no-new-privileges",
        "--pids-limit 256",
    ]:
        assert option in unit
        assert option in script


def test_every_file_that_deploy_md_names_exists() -> None:
    named = set(re.findall(r"\bdeploy/[\w./-]*\w", (ROOT / "docs/deploy.md").read_text()))
    assert named
    made_by_the_reader = {"deploy/.env"}
    assert not [n for n in named - made_by_the_reader if not (ROOT / n).exists()]
