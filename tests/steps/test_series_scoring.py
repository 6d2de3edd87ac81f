"""Slices go to the pyfunc with their series, and each one comes back with an answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from steps.evaluation import series as scoring
from steps.evaluation.external_series import names_of_unseen
from steps.evaluation.external_set import ExternalScan
from steps.evaluation.series import answers_by_digest, score_slices, series_names


class Stub:
    """A pyfunc whose slices carry their position as text; every second one is left out."""

    def __init__(self, answers_series: bool = True) -> None:
        self.calls: list[list[str]] = []
        self._answers_series = answers_series

    def predict(self, images: pd.DataFrame) -> pd.DataFrame:
        places = [int(data) for data in images["image"]]
        self.calls.append(list(images.columns))
        if "series" not in images:
            return pd.DataFrame({"label": [f"slice {n}" for n in places], "error": None})
        skipped = [
            bool(name) and n % 2 == 1 for n, name in zip(places, images["series"], strict=True)
        ]
        labels = [None if s else f"slice {n}" for n, s in zip(places, skipped, strict=True)]
        return pd.DataFrame(
            {"label": labels, "error": None, "series": images["series"], "series_label": "part",
             "skipped": skipped},
            dtype=object,
        )  # fmt: skip

    def unwrap_python_model(self) -> Any:
        return self if self._answers_series else object()

    def series_rows(self, rows: pd.DataFrame) -> pd.DataFrame:
        found = rows[rows["series"].notna()]
        return pd.DataFrame(
            [
                {"series": name, "skipped": int(own["skipped"].sum()), "key_slice": own.index[-1]}
                for name, own in found.groupby("series", sort=False)
            ]
        )


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    for number in range(7):
        (tmp_path / str(number)).write_bytes(str(number).encode())
    return [tmp_path / str(number) for number in range(7)]


SERIES = ["a", "a", None, "b", "a", "b", "a"]


def test_a_slice_that_its_series_left_out_is_scored_by_itself(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "BATCH", 3)
    stub = Stub()
    scored = score_slices(stub, paths, SERIES)
    assert list(scored.rows["label"]) == [f"slice {n}" for n in range(7)]
    assert list(scored.rows.columns) == ["label", "error"]  # what one call says of a series is part
    assert scored.answers is not None
    assert scored.answers["series"].tolist() == ["a", "b"]
    assert scored.answers["skipped"].tolist() == [1, 2]
    assert stub.calls == [["image", "series"]] * 3 + [["image"]]


def test_without_series_or_without_answers_nothing_changes(paths: list[Path]) -> None:
    for stub, series in ((Stub(), [None] * 7), (Stub(answers_series=False), SERIES)):
        scored = score_slices(stub, paths, series)
        assert scored.answers is None and stub.calls == [["image"]]
        assert list(scored.rows["label"]) == [f"slice {n}" for n in range(7)]


def test_a_series_is_named_after_its_smallest_digest() -> None:
    keys = [("x", "1"), ("y", "1"), None, ("x", "1")]
    digests = ["c" * 64, "b" * 64, "0" * 64, "a" * 64]
    assert series_names(keys, digests) == ["saaaaaaaaaaaa", "sbbbbbbbbbbbb", None, "saaaaaaaaaaaa"]


def test_a_table_of_answers_names_the_key_slice_by_digest() -> None:
    answers = pd.DataFrame({"series": ["a", "b"], "key_slice": [1, None]}, dtype=object)
    table = answers_by_digest(answers, ["x", "y"])
    assert table["key_slice_sha256"].tolist() == ["y", None] and "key_slice" not in table


def test_a_series_that_was_partly_seen_is_not_from_elsewhere() -> None:
    every = [
        ExternalScan(Path(), "normal", digest, b"", "g", "", series=(None, series))
        for digest, series in (("1", "a"), ("2", "a"), ("3", "b"), ("4", "b"), ("5", "c"))
    ]
    kept = [scan for scan in every if scan.sha256 not in ("2", "5")]
    names, partly = names_of_unseen(every, kept)
    assert names == [None, "s3", "s3"] and partly == 1
