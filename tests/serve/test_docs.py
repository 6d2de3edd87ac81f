"""docs/serving.md says what the server does."""

from __future__ import annotations

import re
from pathlib import Path

from serve.__main__ import main
from serve.http.metrics import ROUTES, Metrics
from serve.http.request_limits import RequestLimits

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "serving.md").read_text()


def test_every_option_route_and_metric_is_documented() -> None:
    options = {name for parameter in main.params for name in parameter.opts}
    metrics = {
        metric.name + ("_total" if metric.type == "counter" else "")
        for metric in Metrics().registry.collect()
    }
    missing = [name for name in options | metrics | ROUTES if f"`{name}" not in DOCUMENT]
    assert [name for name in missing if f" {name}`" not in DOCUMENT] == []


def test_defaults_in_the_document_are_those_of_the_command() -> None:
    documented = dict(re.findall(r"^\| `--([a-z-]+)` \| (\d+) \|", DOCUMENT, re.MULTILINE))
    actual = {parameter.opts[0].lstrip("-"): parameter.default for parameter in main.params}
    assert len(documented) == 7
    assert {name: float(text) for name, text in documented.items()} == {
        name: float(actual[name]) for name in documented
    }


def test_defaults_of_the_command_are_those_of_the_limits() -> None:
    actual = {parameter.name: parameter.default for parameter in main.params}
    usual = RequestLimits()
    assert actual["max_body_mb"] * 1024 * 1024 == usual.max_body_bytes
    assert actual["max_series_mb"] * 1024 * 1024 == usual.max_series_bytes
    for name in ("max_rows", "max_slices", "max_in_flight", "request_timeout_s"):
        assert actual[name] == getattr(usual, name)
