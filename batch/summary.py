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
OWN_KINDS = re.compile(r"(not_found|forbidden|archived|read_failed|too_large|model_failed): ")
NOTICE = "Research software, not a medical device."


@dataclass
class Counts:
    """What the parts hold."""

    rows: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    sample: list[dict[str, str]] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    out_of_domain: int | None = None


def error_kind(text: str) -> str:
    """Return the kind that an error is counted under.

    It is the word that the job itself puts before the colon. A pyfunc's own sentence is its kind,
    with what differs from scan to scan (numbers, quotations) taken out.
    """
    if match := OWN_KINDS.match(text):
        return match.group(1)
    plain = re.sub(r"""'[^']*'|"[^"]*"|«[^»]*»""", "…", text)
    return re.sub(r"\d+(?:[.,]\d+)*", "#", plain)[:120]


def count_rows(output: Output, sample_size: int = 20) -> Counts:
    """Read every part and count labels and error kinds, with a few errors as examples.

    The sample names a row by part and ETag, not by its key, which may hold a patient's name.
    """
    counts = Counts()
    for part, table in output.tables():
        counts.parts.append(part)
        counts.rows += table.num_rows
        counts.labels.update(_tally(table["label"]))
        failed = table.filter(pa.compute.is_valid(table["error"]))
        for text, number in _tally(failed["error"]).items():
            kind = error_kind(text)
            room = len(counts.errors) < KINDS_KEPT or kind in counts.errors
            counts.errors[kind if room else "other"] += number
        for row in failed.select(["etag", "error"]).slice(0, sample_size).to_pylist():
            if len(counts.sample) < sample_size:
                counts.sample.append({"part": part, **row})
        if "out_of_domain" in table.column_names:
            flagged = pa.compute.sum(table["out_of_domain"]).as_py() or 0
            counts.out_of_domain = (counts.out_of_domain or 0) + flagged
    return counts


def _tally(column: pa.ChunkedArray) -> dict[str, int]:
    pairs = pa.compute.value_counts(pa.compute.drop_null(column)).to_pylist()
    return {pair["values"]: pair["counts"] for pair in pairs}


def write_results(store: Store, summary: dict[str, Any], counts: Counts) -> None:
    """Write `summary.json`, the manifest for Athena and Hive, then `_SUCCESS`, in this order."""
    manifest = "".join(f"{store.uri}{part}\n" for part in counts.parts)
    store.write(MANIFEST, manifest.encode())
    store.write(SUMMARY, json.dumps(summary, indent=2).encode())
    store.write(SUCCESS, b"")


def versions(*extra: str) -> dict[str, str]:
    """Return the versions that decided the result."""
    found = {"python": platform.python_version()}
    for package in ("mlflow", "pyarrow", "boto3", *extra):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
