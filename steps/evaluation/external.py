"""Score a model on scans from elsewhere: what it is worth where it was not trained.

Scans that the model's own data set shares with the set (the same bytes, near-duplicates, the same
patients) are left out. Writes artifacts/external_evaluation/NAME and, for a registered model, adds
the scores to its version.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import mlflow
import numpy as np
import pandas as pd

from model.packaging import quiet_mlflow
from scans.limits import Limits
from scans.sources import redacted
from steps.errors import StageError, one_sentence_errors
from steps.evaluation.external_model import ExternalModel, external_model
from steps.evaluation.external_record import headline_numbers, lines, record
from steps.evaluation.external_report import write_external_report
from steps.evaluation.external_scores import external_scores
from steps.evaluation.external_series import names_of_unseen, series_of_set
from steps.evaluation.external_set import diseased, read_external_set, unseen
from steps.evaluation.lesions import marked
from steps.evaluation.series import PREDICTIONS, answers_by_digest, score_slices
from steps.folders import replaced_folder
from steps.options import StageCommand, section_options
from steps.parameters import ExternalEvaluation
from steps.tracking import log_params, print_progress, stage_run

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
SCORES = "scores.json"


def external_evaluation(
    model: ExternalModel,
    source: str,
    output: Path,
    *,
    name: str,
    class_patterns: str,
    prevalences: Sequence[float],
    limits: Limits,
    labels: str = "",
    lesions: Path | None = None,
) -> dict[str, Any]:
    """Score a model on an external set and write the results into a folder.

    Args:
        model: what is scored.
        source: of the scans, see `scans.sources.EXPECTED`.
        output: the folder to write; appears only when whole. Receives scores.json, predictions.csv
            (known by digest: file names may name patients), report.html and, where series are
            known, series_predictions.csv.
        name: of the set.
        class_patterns: `glob=class;glob=class`, with the model's classes or `disease`.
        labels: path of a table of labels, or "" for class folders.
        prevalences: shares of diseased for predictive values, above 0 and below 1.
        limits: how much the source may hold.
        lesions: folder of masks or boxes, see `steps.evaluation.lesions.marked`.

    Returns:
        The scores, as written; `series` is None where no series is known or the model answers none.

    Raises:
        StageError: a class the model does not know, or nothing left that it has not seen.
        SourceError: the source cannot be used.
    """
    with tempfile.TemporaryDirectory(prefix="chest-ct-external-") as work:
        bits = model.seen.group_distance_bits
        found = read_external_set(source, Path(work), class_patterns, bits, limits, labels)
        diseased(found.scans, model.classes, model.healthy)  # a mistake shows before the scoring
        scans, left_out = unseen(found.scans, model.seen)
        lesion = marked([s.path for s in scans], lesions) if lesions else np.zeros(len(scans), bool)
        print_progress(f"scoring {len(scans)} scans of {name}")
        names, partly_seen = names_of_unseen(found.scans, scans)
        scored = score_slices(model.pyfunc, [scan.path for scan in scans], names)
    known = pd.DataFrame([{"sha256": s.sha256, "group": s.group, "actual": s.label} for s in scans])
    rows = pd.concat([known, scored.rows], axis=1)
    failed = rows["error"].notna().to_numpy()
    if failed.all():
        raise StageError(
            f"None of the {len(scans)} scans could be scored, the first: {rows['error'].iloc[0]}"
        )
    answered = rows[~failed]
    sick = diseased([s for s, bad in zip(scans, failed, strict=True) if not bad],
                    model.classes, model.healthy)  # fmt: skip
    result: dict[str, Any] = {
        "name": name,
        "model": {"uri": model.uri, "model_digest": model.digest, "classes": list(model.classes)},
        "per_class": answered["actual"].value_counts().sort_index().to_dict(),
        "left_out": left_out,
        "stated_sensitivity": model.stated_sensitivity,
        "rejected": found.rejected,
        "failed": int(failed.sum()),
        **external_scores(
            sick,
            model.p_disease(answered),
            ~answered["label"].isin(model.healthy).to_numpy(),
            answered["out_of_domain"].fillna(False).to_numpy(bool),
            _flags(answered, "undecided"),
            answered["group"].to_numpy(np.str_),
            model.threshold,
            prevalences,
        ),
    }
    result["series"] = None
    if scored.answers is not None:
        section = series_of_set(model, scored.answers, scans, names, lesion)
        result["series"] = section | {"partly_seen": partly_seen}
    with replaced_folder(output) as folder:
        if scored.answers is not None:
            answers_by_digest(scored.answers, rows["sha256"]).to_csv(
                folder / PREDICTIONS, index=False
            )
        rows.to_csv(folder / "predictions.csv", index=False)
        text = json.dumps(result, indent=2, ensure_ascii=False) + "\n"
        (folder / SCORES).write_text(text, encoding="utf-8")
        write_external_report(folder, result, model.internal_scores, source)
    return result


def _flags(rows: pd.DataFrame, column: str) -> Any:
    if column not in rows or rows[column].isna().all():
        return None
    return rows[column].fillna(False).to_numpy(bool)


def check_name(name: str) -> None:
    """Refuse a set's name that cannot be part of a tag, a metric and a folder.

    Raises:
        StageError: it cannot.
    """
    if not NAME.fullmatch(name):
        raise StageError(
            "Expected name as 1 to 40 letters, digits, - and _, for example iq_oth_nccd. "
            f"Received: {name!r}"
        )


def parse_prevalences(text: str) -> list[float]:
    """Read shares such as `0.01;0.05;0.3`.

    Raises:
        StageError: one is no number above 0 and below 1.
    """
    shares = []
    for part in filter(None, (part.strip() for part in text.split(";"))):
        try:
            share = float(part)
        except ValueError:
            share = 0.0
        if not 0 < share < 1:
            raise StageError(
                "Expected prevalence as shares above 0 and below 1, for example 0.01;0.05;0.3. "
                f"Received: {part!r}"
            )
        shares.append(share)
    return shares


@click.command(cls=StageCommand, help=__doc__)
@click.option(
    "--model-uri",
    required=True,
    help="models:/chest-ct/3, models:/chest-ct/Production or a folder of a saved model.",
)
@click.option("--name", required=True, help="Name of the set, for example iq_oth_nccd.")
@click.option("--source", required=True, help="Where the scans are, as for data_ingestion.")
@click.option(
    "--class-patterns",
    default="",
    help="What the set's classes mean: folder=class;folder=class, with the model's classes or "
    "disease.",
)
@click.option("--labels", default="", help="Table of labels, instead of class folders.")
@click.option(
    "--lesions",
    default="",
    help="Folder of masks (PNG) or boxes (Pascal VOC XML), called as the scans' SOP Instance UIDs "
    "or files: how often does a series' key slice show a lesion?",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path("artifacts/external_evaluation"),
    help="Folder in which a folder of the set's name is written.",
)
@section_options(ExternalEvaluation)
@one_sentence_errors
def main(
    settings: ExternalEvaluation,
    model_uri: str,
    name: str,
    source: str,
    class_patterns: str,
    labels: str,
    lesions: str,
    output: Path,
) -> None:
    check_name(name)
    prevalences = parse_prevalences(settings.prevalence)
    limits = Limits(settings.max_files, settings.max_total_bytes, settings.max_file_bytes)
    with (
        stage_run("external_evaluation", f"external_evaluation · {name} · {model_uri}"),
        quiet_mlflow(),  # whose bars of artefacts would drown the progress
        external_model(model_uri) as model,
    ):
        log_params(
            {
                "model_uri": model_uri,
                "name": name,
                "source": redacted(source),
                "class_patterns": class_patterns,
                "labels": labels,
                "lesions": lesions,
                "prevalence": settings.prevalence,
            }
        )
        result = external_evaluation(
            model,
            source,
            output / name,
            name=name,
            class_patterns=class_patterns,
            labels=labels,
            lesions=Path(lesions).expanduser() if lesions else None,
            prevalences=prevalences,
            limits=limits,
        )
        mlflow.log_metrics(headline_numbers(result))
        mlflow.log_artifacts(str(output / name), f"external/{name}")
        recorded = record(model, result, output / name)
    click.echo("\n".join(lines(result)))
    print_progress(f"Wrote {output / name}/report.html" + (f"; {recorded}" if recorded else ""))


if __name__ == "__main__":
    main()
