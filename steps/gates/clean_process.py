"""Score scans with one saved model, in a process of its own.

Two versions of a model carry two packages of one name, so each is loaded in a process that has
neither the other nor this project on its path. `score` starts such a process; run as a program,
this file is the process, and imports nothing of the project.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BATCH = 16  # scans per call of the model
TIMEOUT_S = 3600
SECRETS = ("PASSWORD", "TOKEN", "SECRET", "ACCESS_KEY")  # not for the eyes of a model's code

Row = dict[str, Any]


class ScoringError(ValueError):
    """The model could not be loaded or did not answer; the message says why."""


@dataclass(frozen=True)
class Answers:
    """What a model answered."""

    example: list[Row] | None  # to its own input example; None: it carries none
    rows: list[Row]  # to the scans, in their order


def score(model_folder: Path, scans: Sequence[Path]) -> Answers:
    """Load a saved model in a clean process, ask it its own example and the scans.

    Raises:
        ScoringError: it does not load, raises, answers too few rows, or takes over an hour.
    """
    environment = {
        name: value
        for name, value in os.environ.items()
        if name != "PYTHONPATH" and not any(secret in name for secret in SECRETS)
    }
    with tempfile.TemporaryDirectory() as folder:
        request, answer = Path(folder, "request.json"), Path(folder, "answer.json")
        request.write_text(json.dumps([str(scan.resolve()) for scan in scans]))
        command = [
            sys.executable,
            "-P",
            __file__,
            str(model_folder.resolve()),
            str(request),
            str(answer),
        ]
        try:
            done = subprocess.run(
                command, cwd=folder, env=environment, capture_output=True, text=True,
                errors="replace", timeout=TIMEOUT_S, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise ScoringError(f"it did not answer within {TIMEOUT_S} s") from error
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise ScoringError(last[:300])
        answers = json.loads(answer.read_text())
    if len(answers["rows"]) != len(scans):
        raise ScoringError(f"expected {len(scans)} rows, received {len(answers['rows'])}")
    return Answers(answers["example"], answers["rows"])


def _records(frame: Any) -> list[Row]:
    rows: list[Row] = frame.to_dict("records")
    return [
        {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()}
        for row in rows
    ]


def main(model_folder: str, request: str, answer: str) -> None:
    """Load the model, answer the request file with the answer file."""
    import mlflow
    import pandas as pd

    model = mlflow.pyfunc.load_model(model_folder)
    example = model.metadata.load_input_example(model_folder)
    params = model.metadata.load_input_example_params(model_folder)
    answers: dict[str, Any] = {
        "example": None if example is None else _records(model.predict(example, params=params)),
        "rows": [],
    }
    scans = json.loads(Path(request).read_text())
    for start in range(0, len(scans), BATCH):
        images = [Path(scan).read_bytes() for scan in scans[start : start + BATCH]]
        rows = model.predict(pd.DataFrame({"image": pd.Series(images, dtype=object)}))
        answers["rows"].extend(_records(rows))
    Path(answer).write_text(json.dumps(answers, default=lambda value: value.item()))


if __name__ == "__main__":
    main(*sys.argv[1:])
