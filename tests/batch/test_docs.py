"""docs/batch.md says what the program does."""

from __future__ import annotations

import json
import re

import click

from batch.__main__ import main
from batch.settings import MIN_WINDOW
from batch.summary import OWN_KINDS
from batch.table.output import ROWS_PER_PART
from batch.table.parts import JOB_FIELDS, OBJECT_FIELDS
from tests.batch.conftest import ROOT

TEXT = (ROOT / "docs" / "batch.md").read_text()


def test_every_option_is_documented_and_every_documented_one_exists() -> None:
    options = {
        name
        for parameter in main.params
        if isinstance(parameter, click.Option)
        for name in (*parameter.opts, *parameter.secondary_opts)
    }
    table = TEXT.partition("## Options")[2].partition("\n## ")[0]
    documented = set(re.findall(r"--[a-z][a-z-]+", table))
    assert options == documented


def test_defaults_columns_and_kinds_are_the_programs() -> None:
    defaults = {p.name: p.default for p in main.params}
    assert f"`--batch-size {defaults['batch_size']}`" in TEXT
    assert f"`--workers {defaults['workers']}`" in TEXT
    assert f"at most {ROWS_PER_PART:,} rows each" in TEXT
    assert f"{MIN_WINDOW} objects" in TEXT
    for field in (*OBJECT_FIELDS, *JOB_FIELDS):
        assert f"`{field.name}`" in TEXT
    for kind in re.findall(r"[a-z_]{5,}", OWN_KINDS.pattern):
        assert f"`{kind}:`" in TEXT


def test_policy_is_json_and_allows_what_the_job_does() -> None:
    policy = json.loads(re.search(r"```json\n(\{.*?\})\n```", TEXT, re.DOTALL).group(1))  # type: ignore[union-attr]
    actions = {
        action
        for statement in policy["Statement"]
        for action in (
            [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]
        )
    }
    assert actions == {
        "s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:DeleteObject",
        "kms:Decrypt", "kms:GenerateDataKey",
    }  # fmt: skip


def test_times_and_costs_follow_from_the_formula() -> None:
    scans_per_s, per_hour = 23, 0.0893
    rows = re.findall(r"^\| 10([⁴⁶⁸]) \| (\d+).*? \| ([\d.]+) (min|h) \| \$([\d.]+) ", TEXT, re.M)
    assert len(rows) == 4
    for power, machines, time, unit, cost in rows:
        objects = 10 ** {"⁴": 4, "⁶": 6, "⁸": 8}[power]
        hours = objects / (scans_per_s * int(machines) * 3600)
        assert abs(hours * (60 if unit == "min" else 1) - float(time)) < 0.5
        assert abs(hours * int(machines) * per_hour - float(cost)) < 0.01
