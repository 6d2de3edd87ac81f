"""Data sets as MLflow knows them: scans by digest, without the names of their files."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow

from scans.errors import SourceError
from scans.manifest import MANIFEST, read_summary

if TYPE_CHECKING:
    from mlflow.data.pandas_dataset import PandasDataset

DIGEST_CHARACTERS = 36  # at most, of a data set's digest in MLflow
NAMES = {"train": "training split", "test": "test split"}


def split_dataset(data: Path, split: str | None = None) -> PandasDataset:
    """Describe the scans of one split, or all: digests, labels, groups and splits.

    Args:
        data: what data_ingestion wrote.
        split: `train`, `validation` or `test`; None for all.
    """
    import pandas as pd

    # Without file names: they may name patients.
    manifest = pd.read_csv(data / MANIFEST, dtype=str).drop(columns="path")
    digest = read_summary(data)["data_digest"]
    if split is not None:
        manifest = manifest[manifest["split"] == split].reset_index(drop=True)
        digest = hashlib.sha256(" ".join(sorted(manifest["sha256"])).encode()).hexdigest()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*dataset source can be interpreted")
        return mlflow.data.from_pandas(
            manifest,
            source=MANIFEST,
            name="scans" if split is None else NAMES.get(split, f"{split} split"),
            digest=digest[:DIGEST_CHARACTERS],
        )


def source_of(data: Path) -> str:
    """Return where the scans in a folder come from, without secrets; "" where it does not say."""
    try:
        return str(read_summary(data)["source"])
    except (SourceError, ValueError, KeyError):
        return ""  # whoever needs them says so


def log_scans(data: Path) -> None:
    """Log all scans as a data set that the active run was trained on."""
    mlflow.log_input(split_dataset(data), context="training")
