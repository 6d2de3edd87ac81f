"""The evaluation scores the artefact: its own code, under the digest of what was scored."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from model.packaging import PACKAGE
from scans.manifest import read_manifest
from steps.errors import StageError
from steps.evaluation.__main__ import digest_of, evaluation, refuse_changed
from tests.model.tiny import Tiny


def test_code_that_was_changed_in_the_artefact_is_what_is_scored(
    tiny_pipeline: Tiny, tmp_path: Path
) -> None:
    """Every answer of the changed code is the first class; the checkout's code is untouched."""
    trained = tmp_path / "trained"
    shutil.copytree(tiny_pipeline.trained, trained)
    refuse_changed(trained / "model")
    code = trained / "model" / "code" / PACKAGE / "decision.py"
    text = code.read_text()
    changed = text.replace("def labels(", "def changed_labels(")
    assert changed != text
    code.write_text(
        changed + "\n\ndef labels(p, classes, *others, **named):\n"
        "    return np.zeros(len(p), dtype=np.intp)\n"
    )
    result = evaluation(
        tiny_pipeline.data,
        trained,
        tmp_path / "evaluation",
        tmp_path / "scores.json",
        protocol_repeats=0,
        stress=False,
    )
    rows = result["confusion_matrix"]["rows_actual_columns_predicted"]
    test = [row.label for row in read_manifest(tiny_pipeline.data) if row.split == "test"]
    first = result["confusion_matrix"]["classes"][0]
    assert [row[0] for row in rows] == [sum(row) for row in rows]
    assert result["accuracy"] == pytest.approx(test.count(first) / len(test))
    stored = json.loads((tmp_path / "scores.json").read_text())
    assert stored["model_digest"] == digest_of(trained / "model")
    assert stored["model_digest"] != digest_of(tiny_pipeline.model)
    with pytest.raises(StageError, match="changed after it was saved"):
        refuse_changed(trained / "model")
