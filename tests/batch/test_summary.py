"""What the job reports: answers counted by kind, this run beside the whole output."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from mlflow import MlflowClient

from batch.pipeline import row_of
from batch.pyfunc import PinnedModel, model_digest
from batch.source.fetch import Fetched
from batch.source.listing import ScanObject
from batch.summary import TableCounts
from batch.table.parts import schema_of, to_table
from tests.batch.conftest import ROOT, Run, png
from tests.batch.test_job import save_model
from tests.batch.test_parts import COLUMNS, row
from tests.stand_in_model import save_stand_in_model

FLAGS = {"out_of_domain": "bool", "undecided": "bool"}


def counted(rows: list[dict[str, Any]], columns: dict[str, str]) -> TableCounts:
    """Return the counts of one part."""
    counts = TableCounts()
    counts.add("part-00000.parquet", to_table(rows, schema_of(COLUMNS | columns)))
    return counts


def test_each_row_is_of_one_kind_and_only_answered_ones_count_under_their_label() -> None:
    counts = counted(
        [
            row(label="a", out_of_domain=False, undecided=False),
            row(label="a", out_of_domain=False, undecided=None),
            row(label="b", out_of_domain=None, undecided=False),
            row(label="a", out_of_domain=True, undecided=False),
            row(label="b", out_of_domain=True, undecided=True),
            row(label="b", out_of_domain=False, undecided=True),
            row(label=None, error="not_found: gone"),
        ],
        FLAGS,
    )
    found = (counts.rows, counts.answered, counts.undecided, counts.out_of_domain, counts.failed)
    assert found == (7, 3, 1, 2, 1)
    assert counts.labels == {"a": 2, "b": 1}
    assert counts.errors == {"not_found": 1}


def test_an_error_of_the_jobs_own_has_its_code_and_a_models_keeps_its_own() -> None:
    fetched = Fetched(ScanObject("file:///a.dcm", 3, "e", datetime.now(UTC)), None)
    model = PinnedModel("models:/m/1", "models:/m", "d" * 64, Path())

    def code(**answer: Any) -> Any:
        return row_of(fetched, answer, model).get("error_code")

    for kind in ("not_found", "forbidden", "archived", "read_failed", "too_large", "model_died"):
        assert code(error=f"{kind}: the reason") == kind
    assert code(error="Expected a slice.", error_code="localizer") == "localizer"
    assert code(error="Expected a slice.") is None
    assert code(error=None, label="normal") is None


@pytest.mark.parametrize("columns", [{}, {"out_of_domain": "bool"}, {"undecided": "string"}])
def test_a_model_without_these_columns_has_none_of_these_kinds(columns: dict[str, str]) -> None:
    rows = [row(label="a", out_of_domain=False, undecided="no"), row(error="x")]
    counts = counted(rows, columns)
    assert (counts.answered, counts.undecided, counts.out_of_domain, counts.failed) == (1, 0, 0, 1)
    assert counted([], columns).rows == 0


def test_summary_metrics_and_the_last_line_count_by_kind(tmp_path: Path, run_here: Run) -> None:
    model = save_model(
        tmp_path,
        """
        frame = super().predict(context, model_input, params)
        grey = [None if e else p * 255 for e, p in zip(frame["error"], frame["p_normal"])]
        frame["out_of_domain"] = [None if g is None else g < 50 for g in grey]
        frame["undecided"] = [None if g is None else 50 <= g < 110 for g in grey]
        return frame
        """,
    )
    scans = tmp_path / "scans"
    scans.mkdir()
    for n, grey in enumerate((10, 20, 60, 120, 130, 140)):
        (scans / f"{n}.png").write_bytes(png(grey))
    (scans / "bad").write_bytes(b"bad")
    result = run_here(scans, tmp_path / "out", "--model-uri", model)
    assert result.code == 1, result.err
    expected = {"answered": 3, "undecided": 1, "out_of_domain": 2, "failed": 1}
    written = json.loads((tmp_path / "out/summary.json").read_text())
    assert written == result.summary
    assert {name: written[name] for name in expected} == expected
    assert sum(written["labels"].values()) == 3
    assert "7 rows: 3 answered, 1 undecided, 2 out of domain, 1 failed." in result.err
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    metrics = client.get_run(written["mlflow_run_id"]).data.metrics
    assert {name: metrics[name] for name in expected} == expected


def test_a_run_that_reads_nothing_reports_itself(
    tmp_path: Path, run_here: Run, stand_in_model: Path
) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    for n in range(4):
        (scans / f"{n}.png").write_bytes(png(n))
    arguments = (scans, tmp_path / "out", "--model-uri", stand_in_model)
    first = run_here(*arguments).summary
    assert (first["objects_read"], first["rows_written"]) == (4, 4)
    assert first["scans_per_s"] > 0
    time.sleep(1.1)
    began = datetime.now(UTC)
    result = run_here(*arguments)
    again = result.summary
    assert json.loads((tmp_path / "out/summary.json").read_text()) == again
    assert (again["objects_read"], again["bytes_read"], again["rows_written"]) == (0, 0, 0)
    assert (again["objects_skipped"], again["rows"], again["answered"]) == (4, 4, 4)
    assert again["scans_per_s"] is None
    assert again["mlflow_run_id"] != first["mlflow_run_id"]
    finished = datetime.fromisoformat(again["finished_at"])
    assert finished > datetime.fromisoformat(first["finished_at"])
    assert finished > began - timedelta(seconds=1)
    assert "Nothing new" in result.err
    described = (ROOT / "docs/batch.md").read_text()
    plain = {"notice", "input", "output", "engine", "versions", "mlflow_run_id"}
    missing = {name for name in again.keys() - plain if f"`{name}`" not in described}
    assert not missing, "docs/batch.md describes each field"


def test_a_model_saved_again_keeps_its_rows(tmp_path: Path, run_here: Run) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    (scans / "1.png").write_bytes(png(1))
    model = tmp_path / "models"
    model.mkdir()
    save_stand_in_model(model)
    arguments = (scans, tmp_path / "out", "--model-uri", model / "model", "--no-tracking")
    first = run_here(*arguments).summary
    before = (model / "model/MLmodel").read_text()
    (model / "model").rename(tmp_path / "earlier")
    save_stand_in_model(model)
    assert (model / "model/MLmodel").read_text() != before, "MLflow writes a time and an identity"
    again = run_here(*arguments).summary
    assert (again["objects_read"], again["model_digest"]) == (0, first["model_digest"])
    (model / "model/stand_in.py").write_text(
        (model / "model/stand_in.py").read_text() + "\n# changed by hand\n"
    )
    changed = run_here(*arguments).summary
    assert changed["objects_read"] == 1
    assert changed["model_digest"] != first["model_digest"]


def test_rows_carry_the_digest_that_the_model_carries(tmp_path: Path, run_here: Run) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    (scans / "1.png").write_bytes(png(1))
    model = save_stand_in_model(tmp_path)
    described = yaml.safe_load((model / "MLmodel").read_text())
    described["metadata"] = {"model_digest": "ab" * 32}
    (model / "MLmodel").write_text(yaml.safe_dump(described))
    assert model_digest(model) == "ab" * 32
    result = run_here(scans, tmp_path / "out", "--model-uri", model, "--no-tracking")
    assert result.summary["model_digest"] == "ab" * 32
    table = pq.read_table(tmp_path / "out/part-00000.parquet")
    assert table["model_digest"].to_pylist() == ["ab" * 32]
    described["metadata"] = {"model_digest": "not one"}
    (model / "MLmodel").write_text(yaml.safe_dump(described))
    assert len(model_digest(model)) == 64
