"""The same series through every way that there is to ask for them, in one form to compare."""

from __future__ import annotations

import base64
import io
import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import requests

from tests.batch.conftest import ROOT, Bucket, clean_environment

# Of an answer, beside `key_slice`, the name of a file; see docs/series.md.
EQUAL = (
    "label", "undecided", "error", "slices", "scored", "skipped", "failed", "gaps",
    "duplicate_positions", "note", "key_position_mm", "first_mm", "last_mm",
)  # fmt: skip
CLOSE = ("probability", "out_of_domain_share")  # and p_<class>
CLOSE_TO = 1e-6
SERVER_TIMEOUT_S = 300

Files = Mapping[str, bytes]  # of DICOM slices, by name; no name ends in another
Answers = dict[str, dict[str, Any]]  # by series


def of_python(model: Path, files: Files) -> Answers:
    """Ask the pyfunc, all slices in one call."""
    pyfunc = mlflow.pyfunc.load_model(str(model))
    rows = pyfunc.predict(_images(list(files.values())), params={"series": True})
    return _from_rows(pyfunc, rows, list(files))


def of_invocations(url: str, model: Path, files: Files, rows_a_call: int) -> Answers:
    """Ask /invocations for rows, some slices at a time, and the pyfunc for answers from them."""
    names, parts = list(files), []
    for start in range(0, len(names), rows_a_call):
        some = [files[name] for name in names[start : start + rows_a_call]]
        text = [[base64.b64encode(data).decode()] for data in some]
        body = {"dataframe_split": {"columns": ["image"], "data": text}, "params": {"series": True}}
        answer = requests.post(f"{url}/invocations", json=body, timeout=SERVER_TIMEOUT_S)
        assert answer.status_code == 200, answer.text
        parts += answer.json()["predictions"]
    rows = pd.DataFrame(parts, dtype=object)
    return _from_rows(mlflow.pyfunc.load_model(str(model)), rows, names)


def of_predict(url: str, files: Files) -> Answers:
    """Send one zip to /predict."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    sent = [("files", ("study.zip", packed.getvalue()))]
    answer = requests.post(f"{url}/predict", files=sent, timeout=SERVER_TIMEOUT_S)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    for row in body["predictions"]:
        if row["series"] is not None:
            (entry,) = [e for e in body["series"] if e["series"] == row["series"]]
            assert row["series_probability"] == entry["probability"]
    return _normal(body["series"], list(files))


def of_batch(model: Path, files: Files, bucket: Bucket, scratch: Path, *options: str) -> Answers:
    """Run the batch job over the files in a bucket and read its table of series."""
    bucket.put({f"studies/{name}": data for name, data in files.items()})
    output = f"scores{len(bucket.names('scores'))}/"
    command = [
        sys.executable, "-m", "batch", f"s3://{bucket.name}/studies/",
        f"s3://{bucket.name}/{output}", "--model-uri", str(model), "--no-tracking", *options,
    ]  # fmt: skip
    environment = clean_environment(
        scratch,
        **bucket.server.env(),
        SPARK_LOCAL_IP="127.0.0.1",
        SPARK_LOCAL_HOSTNAME="localhost",
        SPARK_WORKER_DIR=str(scratch / "spark-work"),
    )
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1), done.stderr  # 1: a slice could not be scored
    parts = [bucket.get(key) for key in bucket.names(f"{output}series/part-")]
    table = pa.concat_tables([pq.read_table(io.BytesIO(part)) for part in parts])
    found = table.rename_columns(
        ["series" if name == "series_uid" else name for name in table.column_names]
    ).to_pylist()
    for answer in found:
        answer["key_slice"] = answer["key_slice_uri"]
    return _normal(found, list(files))


def assert_same(found: Answers, expected: Answers) -> None:
    """Check that two ways gave every series the same answer."""
    assert found.keys() == expected.keys()
    for series, answer in expected.items():
        other = found[series]
        for name in ("key_slice", *EQUAL):
            assert other[name] == answer[name], (series, name)
        for name in (n for n in answer if n in CLOSE or n.startswith("p_")):
            pair = (other[name], answer[name])
            if None in pair:
                assert pair == (None, None), (series, name)
            else:
                assert abs(pair[0] - pair[1]) <= CLOSE_TO, (series, name, pair)


def dicom_in_zips(*archives: Path) -> dict[str, bytes]:
    """Return the DICOM files of zips by their names, which begin with the zip's."""
    found = {}
    for path in archives:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith(".dcm"):
                    found[name.replace(os.sep, "/")] = archive.read(name)
    return found


def _images(images: Sequence[bytes]) -> pd.DataFrame:
    return pd.DataFrame({"image": pd.Series(list(images), dtype=object)})


def _from_rows(pyfunc: Any, rows: pd.DataFrame, names: Sequence[str]) -> Answers:
    answers = pyfunc.unwrap_python_model().series_rows(rows).to_dict("records")
    for answer in answers:
        key = answer["key_slice"]
        answer["key_slice"] = None if key is None else names[int(key)]
    return _normal(answers, names)


def _normal(answers: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Answers:
    """Bring answers into one form; a key slice gets its file's name."""
    result: Answers = {}
    for answer in answers:
        key = answer["key_slice"]
        own = [name for name in names if key is not None and key.endswith(name)]
        assert (key is None) == (own == []), key
        kept = {n: v for n, v in answer.items() if n in (*EQUAL, *CLOSE) or n.startswith("p_")}
        result[answer["series"]] = kept | {"key_slice": own[0] if own else None}
    assert len(result) == len(answers), "one answer per series"
    return result
