"""What is kept of an external evaluation: with the model's version, and on the screen."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import mlflow

from steps.evaluation.external_model import ExternalModel
from steps.evaluation.report import write_report
from steps.headline import series_lines
from steps.registry.description import describe
from steps.registry.external import TAG_PREFIX, external_results
from steps.tracking import print_progress

MEASURES = {
    "roc_auc": "ROC AUC",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "balanced_accuracy": "balanced accuracy",
}


def record(model: ExternalModel, result: dict[str, Any], output: Path) -> str | None:
    """Add an external set's scores to the model's version: metrics, artefacts, tag, description.

    Args:
        model: what was scored.
        result: of `external_evaluation`.
        output: its folder.

    Returns:
        A line that says what was recorded; None for a model that is in no registry.
    """
    if model.version is None:
        return None
    client = mlflow.MlflowClient()
    place = f"external/{result['name']}"
    if model.version.run_id:
        for metric, value in headline_numbers(result).items():
            client.log_metric(model.version.run_id, f"{place}/{metric}", value)
        client.log_artifacts(model.version.run_id, str(output), place)
    name, number = model.version.name, str(model.version.number)
    client.set_model_version_tag(name, number, TAG_PREFIX + result["name"], json.dumps(tag(result)))
    recorded = external_results(client.get_model_version(name, number).tags)
    description = describe(model.metadata, model.internal_scores or {}, recorded)
    client.update_model_version(name, number, description=description)
    if model.version.run_id:
        try:
            _add_to_report(model.version.run_id, model.internal_scores)
        except (jinja2.UndefinedError, KeyError, TypeError):
            print_progress(
                f"The report of version {number} of {name} is of another version of chest-ct and "
                "stays as it is; what was measured now is in its tag, its description and "
                f"{place}/ of its run."
            )
    return f"recorded with version {model.version.number} of {model.version.name}"


def _add_to_report(run_id: str, internal: Mapping[str, Any] | None) -> None:
    """Write the report of the version's own evaluation anew, with every external set beside it.

    Raises:
        jinja2.UndefinedError, KeyError, TypeError: the scores lack what the report shows now.
    """
    if internal is None or "out_of_domain" not in internal:
        return  # registered without an evaluation of this program's
    with tempfile.TemporaryDirectory() as scratch:
        evaluated, others = (
            Path(mlflow.artifacts.download_artifacts(f"runs:/{run_id}/{place}", dst_path=scratch))
            for place in ("evaluation", "external")
        )
        external = [
            json.loads(file.read_text(encoding="utf-8"))
            for file in sorted(others.glob("*/scores.json"))
        ]
        write_report(evaluated, internal, external)
        report = str(evaluated / "report.html")
        mlflow.MlflowClient().log_artifact(run_id, report, "evaluation")


def headline_numbers(result: dict[str, Any]) -> dict[str, float]:
    """Return the numbers of an external set that are metrics, by name; no unknown ones."""
    values = {
        "scans": result["n"],
        "groups": result["groups"],
        "out_of_domain": result["out_of_domain"]["all"]["value"],
        "brier": result["calibration"]["brier"]["value"],
        "ece": result["calibration"]["ece"],
    }
    for measure in MEASURES:
        values[measure] = result[measure]["value"]
        for end, bound in zip(("lower", "upper"), result[measure]["ci95"] or (), strict=False):
            values[f"{measure}_{end}"] = bound
    if result["undecided"]:
        values["undecided"] = result["undecided"]["all"]["value"]
    if result.get("series"):
        values |= _series_numbers(result["series"])
    return {name: float(value) for name, value in values.items() if value is not None}


def _series_numbers(section: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the metrics of series and patients, see `steps.evaluation.series_scores`."""
    values: dict[str, float | None] = {
        f"series/{name}": section["counts"][name] for name in ("series", "without_answer")
    }
    for level in ("series", "patients"):
        scored = section[level]
        if scored is None:
            continue
        place = "series" if level == "series" else "series/patients"
        values[f"{place}/n"] = scored["n"]
        values[f"{place}/brier"] = scored["calibration"]["brier"]["value"]
        values[f"{place}/ece"] = scored["calibration"]["ece"]
        values[f"{place}/out_of_domain"] = scored["out_of_domain"]["all"]["value"]
        if scored["undecided"]:
            values[f"{place}/undecided"] = scored["undecided"]["all"]["value"]
        for measure in MEASURES:
            values[f"{place}/{measure}"] = scored[measure]["value"]
            for end, bound in zip(("lower", "upper"), scored[measure]["ci95"] or (), strict=False):
                values[f"{place}/{measure}_{end}"] = bound
    if section["key_slice"]:
        values["series/key_slice_within"] = section["key_slice"]["within"]["value"]
        values["series/key_slice_by_chance"] = section["key_slice"]["by_chance"]
    return values


def tag(result: dict[str, Any]) -> dict[str, Any]:
    """Return what a version's tag says about an external set: enough for a gate and a page."""
    tagged: dict[str, Any] = {"scans": result["n"], "groups": result["groups"]}
    for measure in MEASURES:
        tagged[measure] = result[measure]["value"]
        tagged[f"{measure}_ci95"] = result[measure]["ci95"]
    tagged["out_of_domain"] = result["out_of_domain"]["all"]["value"]
    tagged["undecided"] = result["undecided"]["all"]["value"] if result["undecided"] else None
    for level in ("series", "patients"):
        scored = (result.get("series") or {}).get(level)
        if scored:
            tagged[level] = {"n": scored["n"]} | {
                name: scored[measure][end]
                for measure in MEASURES
                for name, end in ((measure, "value"), (f"{measure}_ci95", "ci95"))
            }
    return tagged


def lines(result: dict[str, Any]) -> list[str]:
    """Return the scores that a person reads first."""
    text = [
        f"external set      {result['name']}: {result['n']} scans in {result['groups']} groups, "
        f"{result['diseased']} diseased"
    ]
    left = sum(result["left_out"].values())
    if left or result["rejected"] or result["failed"]:
        text.append(
            f"left out          {left} that the model's data set has, {result['rejected']} "
            f"rejected, {result['failed']} could not be scored"
        )
    for measure, title in MEASURES.items():
        value, interval = result[measure]["value"], result[measure]["ci95"]
        if value is not None:
            between = (
                f"  (95 % interval {interval[0]:.3f} to {interval[1]:.3f})" if interval else ""
            )
            text.append(f"{title:<17} {value:.3f}{between}")
    stated, found = result.get("stated_sensitivity"), result["sensitivity"]
    if stated is not None and found["value"] is not None and found["value"] < stated:
        how = "beyond chance" if found["ci95"][1] < stated else "within chance"
        text.append(
            f"floor missed      a sensitivity of {stated:.3f} is stated; {found['value']:.3f} here "
            f"is below it, {how}"
        )
    text.append(f"out of domain     {result['out_of_domain']['all']['value']:.3f}")
    if result["undecided"]:
        text.append(f"undecided         {result['undecided']['all']['value']:.3f}")
    if result.get("series"):
        text += series_lines(result["series"])
    text.append("Research software, not a medical device.")
    return text
