"""What came out, counted from the files themselves."""

from __future__ import annotations

import json
import platform
import re
from collections import Counter
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pyarrow as pa
import pyarrow.compute

from batch.store.stores import Store
from batch.table.job_record import MANIFEST, SUMMARY
from batch.table.output import SUCCESS, Output

KINDS_KEPT = 50
SAMPLE_SIZE = 20
OWN_KINDS = re.compile(
    r"(not_found|forbidden|archived|read_failed|too_large|model_failed|model_died): "
)
NOTICE = "Research software, not a medical device."


@dataclass
class TableCounts:
    """What the parts hold. A row is one of `answered`, `undecided`, `out_of_domain`, `failed`.

    Attributes:
        rows: all of them.
        failed: rows with an error.
        out_of_domain: scans unlike those the model was trained on. Their label means nothing.
        undecided: other scans whose answer is not one class at the model's error rate.
        answered: the rest.
        labels: how many of the answered have each label.
        errors: how many of the failed have each kind of error.
        sample: a few errors.
        parts: the names of the files.
    """

    rows: int = 0
    answered: int = 0
    undecided: int = 0
    out_of_domain: int = 0
    failed: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    sample: list[dict[str, str]] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)

    def add(self, part: str, table: pa.Table) -> None:
        """Count the rows of a part."""
        failed = pa.compute.is_valid(table["error"])
        out_of_domain = pa.compute.and_not(_flags(table, "out_of_domain"), failed)
        answered_or_undecided = pa.compute.invert(pa.compute.or_(failed, out_of_domain))
        undecided = pa.compute.and_(_flags(table, "undecided"), answered_or_undecided)
        answered = pa.compute.and_not(answered_or_undecided, undecided)
        self.parts.append(part)
        self.rows += table.num_rows
        self.failed += _number(failed)
        self.out_of_domain += _number(out_of_domain)
        self.undecided += _number(undecided)
        self.answered += _number(answered)
        self.labels.update(_frequencies(table["label"].filter(answered)))
        self._add_errors(part, table.filter(failed))

    def _add_errors(self, part: str, failed: pa.Table) -> None:
        for text, number in _frequencies(failed["error"]).items():
            kind = error_kind(text)
            room = len(self.errors) < KINDS_KEPT or kind in self.errors
            self.errors[kind if room else "other"] += number
        for row in failed.select(["etag", "error"]).slice(0, SAMPLE_SIZE).to_pylist():
            if len(self.sample) < SAMPLE_SIZE:
                self.sample.append({"part": part, **row})


def own_kind(text: str) -> str | None:
    """Return the word before the colon of an error that the job itself wrote, else None."""
    match = OWN_KINDS.match(text)
    return match.group(1) if match else None


def error_kind(text: str) -> str:
    """Return the kind that an error is counted under.

    It is the word that the job itself puts before the colon. A pyfunc's own sentence is its kind,
    with what differs from scan to scan (numbers, quotations) taken out.
    """
    if kind := own_kind(text):
        return kind
    plain = re.sub(r"""'[^']*'|"[^"]*"|«[^»]*»""", "…", text)
    return re.sub(r"\d+(?:[.,]\d+)*", "#", plain)[:120]


def count_rows(output: Output) -> TableCounts:
    """Read every part and count what it holds.

    The sample of errors names a row by part and ETag, not by its key, which may hold a patient's
    name.
    """
    counts = TableCounts()
    for part, table in output.tables():
        counts.add(part, table)
    return counts


def _flags(table: pa.Table, column: str) -> pa.ChunkedArray:
    """Return a column's truth values; null, or a column that the model does not have, is false."""
    if column not in table.column_names or table[column].type != pa.bool_():
        return pa.chunked_array([pa.repeat(pa.scalar(False), table.num_rows)])
    return pa.compute.fill_null(table[column], False)


def _number(flags: pa.ChunkedArray) -> int:
    return int(pa.compute.sum(flags).as_py() or 0)


def _frequencies(column: pa.ChunkedArray) -> dict[str, int]:
    pairs = pa.compute.value_counts(pa.compute.drop_null(column)).to_pylist()
    return {pair["values"]: pair["counts"] for pair in pairs}


def write_results(store: Store, summary: dict[str, Any], counts: TableCounts) -> None:
    """Write `summary.json`, the manifest for Athena and Hive, then `_SUCCESS`, in this order."""
    manifest = "".join(f"{store.uri}{part}\n" for part in counts.parts)
    store.write(MANIFEST, manifest.encode())
    store.write(SUMMARY, json.dumps(summary, indent=2).encode())
    store.write(SUCCESS, b"")


def versions(*extra: str) -> dict[str, str]:
    """Return the versions that decided the result."""
    found = {"python": platform.python_version()}
    for package in ("mlflow", "pyarrow", "duckdb", "boto3", *extra):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
