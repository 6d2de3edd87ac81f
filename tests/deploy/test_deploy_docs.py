"""docs/deploy.md: the AWS commands run, in order, with the real CLI against moto's account."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.deploy.aws_account import running_aws_account
from tests.deploy.conftest import ROOT

GUIDE = (ROOT / "docs/deploy.md").read_text()
MARKED = re.findall(r"<!-- tested against moto -->\n```bash\n(.*?)```", GUIDE, re.DOTALL)


@pytest.mark.slow  # the AWS CLI starts 40 times
def test_the_aws_commands_run_and_taking_down_leaves_nothing() -> None:
    assert len(MARKED) == GUIDE.count("<!-- tested against moto -->") >= 8
    script = "\n".join(["set -euo pipefail", *MARKED, 'echo "made: $INSTANCE $GROUP $ADDRESS"'])
    with running_aws_account() as account:
        done = subprocess.run(
            ["bash", "-c", script], cwd=ROOT, env=account, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        assert re.search(r"made: i-\w+ sg-\w+ \d+\.\d+\.\d+\.\d+", done.stdout)
        left = [
            subprocess.run(
                ["aws", *command.split(), "--output", "text"],
                env=account,
                capture_output=True,
                text=True,
                check=True,
            ).stdout.strip()
            for command in [
                "iam list-users --query Users[].UserName",
                "iam list-roles --query Roles[].RoleName",
                "iam list-policies --scope Local --query Policies[].PolicyName",
                "iam list-instance-profiles --query InstanceProfiles[].InstanceProfileName",
                "ecr describe-repositories --query repositories[].repositoryName",
                "ec2 describe-security-groups --filters Name=group-name,Values=chest-ct"
                " --query SecurityGroups[].GroupId",
            ]
        ]
    assert left == [""] * len(left)
