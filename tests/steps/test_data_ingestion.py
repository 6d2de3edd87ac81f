from __future__ import annotations

import csv
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections import Counter
from http.server import BaseHTTPRequestHandler
from pathlib import Path, PurePosixPath
from typing import Any

import mlflow
import pytest
from PIL import Image

from scans.errors import SourceError
from scans.fingerprints import sha256_hex
from scans.limits import Limits
from scans.phantom.patients import DEFAULT_PATIENTS
from scans.splits import Fractions
from scans.summary import SYNTHETIC, report
from steps.data_ingestion import ingest
from steps.parameters import DataIngestion
from tests.scans.conftest import WebServer, class_folders, picture, web_server

__all__ = ["web_server"]

ROOT = Path(__file__).resolve().parents[2]


def run(source: Path | str, output: Path, **settings: Any) -> dict[str, Any]:
    return ingest(
        str(source), output,
        **{
            "sha256": "", "class_patterns": "", "fractions": Fractions(), "seed": 0,
            "group_distance_bits": 40, "resplit": False, "limits": Limits(), "phantom_images": 12,
            **settings,
        },
    )  # fmt: skip


def rows(output: Path) -> list[dict[str, str]]:
    with (output / "manifest.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def command(*options: str | Path, tracking: Path) -> tuple[list[str], dict[str, str]]:
    """Return the command as a user types it, and its environment."""
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{tracking}/mlflow.db",
        "MLFLOW_EXPERIMENT_NAME": "test-ingestion",
        "PYTHONPATH": str(ROOT),
    }
    for inherited in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "CHEST_CT_PARENT_RUN_ID"):
        environment.pop(inherited, None)
    words = [sys.executable, "-m", "steps.data_ingestion", *map(str, options)]
    return words, environment


@pytest.fixture(scope="module")
def phantom_run(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[subprocess.CompletedProcess[str], Path]:
    """The command on 30 phantoms, run in an empty folder."""
    folder = tmp_path_factory.mktemp("run")
    words, environment = command("--phantom-images", "30", tracking=folder)
    done = subprocess.run(words, env=environment, cwd=folder, capture_output=True, text=True)
    return done, folder


def test_the_command_writes_counts_to_standard_output_and_says_they_are_synthetic(
    phantom_run: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    done, folder = phantom_run
    assert done.returncode == 0, done.stderr
    output = folder / "artifacts/data_ingestion"
    summary = json.loads((output / "summary.json").read_text())
    assert done.stdout == report(summary) + "\n"
    assert SYNTHETIC in done.stdout
    assert (summary["files"], summary["distinct"], summary["rejected"]) == (30, 30, 0)
    assert {p.name for p in (folder / "artifacts").iterdir()} == {"data_ingestion"}


def test_phantoms_keep_their_masks(
    phantom_run: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    output = phantom_run[1] / "artifacts/data_ingestion"
    masks = {path.stem for path in (output / "masks").iterdir()}
    ill = [row for row in rows(output) if row["label"] == "adenocarcinoma"]
    assert masks == {row["sha256"] for row in ill}
    for row in ill[:3]:
        with Image.open(output / f"masks/{row['sha256']}.png") as mask:
            assert mask.size == (int(row["width"]), int(row["height"]))
            assert mask.getextrema() == (0, 255)


def test_the_run_is_logged(phantom_run: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    folder = phantom_run[1]
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("test-ingestion")
    assert experiment is not None
    (found,) = client.search_runs([experiment.experiment_id])
    summary = json.loads((folder / "artifacts/data_ingestion/summary.json").read_text())
    assert found.info.status == "FINISHED"
    assert found.data.tags["phantom"] == "true"
    assert found.data.tags["data"] == "synthetic phantoms"
    assert found.data.tags["data_digest"] == summary["data_digest"]
    assert found.data.params["source"] == "phantom"
    assert found.data.params["test_fraction"] == "0.2"
    assert found.data.metrics["distinct"] == 30
    assert found.data.metrics["distinct_test"] == summary["splits"]["test"]


def test_a_users_mistake_is_one_sentence_and_exit_code_1(
    phantom_run: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    folder = phantom_run[1]
    before = (folder / "artifacts/data_ingestion/manifest.csv").read_bytes()
    words, environment = command("--source", "fantom", tracking=folder)
    done = subprocess.run(words, env=environment, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert re.search(r"^Error: Expected 'phantom'.*Did you mean 'phantom'\?$", done.stderr, re.M)
    # What an earlier run left is whole, and still there.
    assert (folder / "artifacts/data_ingestion/manifest.csv").read_bytes() == before


def test_a_killed_run_leaves_nothing_that_passes_for_whole(
    web_server: WebServer, tmp_path: Path
) -> None:
    folder = class_folders(tmp_path / "given", {"a": 6, "b": 6})
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        for path in sorted(folder.rglob("*.png")):
            archive.write(path, path.relative_to(folder))
    data = (tmp_path / "z.zip").read_bytes()

    def stall_half_way(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data[: len(data) // 2])
        handler.wfile.flush()
        while process.poll() is None:
            time.sleep(0.05)

    web_server.answer = stall_half_way
    output = tmp_path / "artifacts/data_ingestion"
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path; "
        "from tests.steps.test_data_ingestion import run; run(sys.argv[2], Path(sys.argv[3]))"
    )
    words = [sys.executable, "-c", script, str(ROOT), f"{web_server.url}/z.zip", str(output)]
    process = subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not web_server.requests and time.monotonic() < deadline:
        time.sleep(0.05)
    assert web_server.requests
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not output.exists()
    assert (tmp_path / "artifacts/.data_ingestion.partial").exists()
    summary = run(tmp_path / "z.zip", output)
    assert summary["distinct"] == 12
    assert [path.name for path in (tmp_path / "artifacts").iterdir()] == ["data_ingestion"]


def test_a_full_disk_leaves_the_earlier_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = class_folders(tmp_path / "given", {"a": 5, "b": 5})
    output = tmp_path / "out"
    run(folder, output)
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    (folder / "a/new.png").write_bytes(picture(77))
    real_copy = shutil.copyfile

    def full(source: Path, target: Path) -> None:
        if len(list(target.parent.iterdir())) > 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        real_copy(source, target)

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space left"):
        run(folder, output)
    assert {path: path.read_bytes() for path in output.rglob("*") if path.is_file()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["given", "out"]


def test_a_folder_of_something_else_is_never_replaced(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "given", {"a": 5, "b": 5})
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/thesis.txt").write_text("years of work")
    with pytest.raises(SourceError, match="holds other files and would be replaced"):
        run(folder, tmp_path / "precious")
    assert (tmp_path / "precious/thesis.txt").exists()
    for output in (folder / "out", folder):
        with pytest.raises(SourceError, match=r"lie in each other|holds other files"):
            run(folder, output)
    assert len(list(folder.rglob("*.png"))) == 10


def test_secrets_in_the_source_are_not_written(web_server: WebServer, tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "given", {"a": 5, "b": 5})
    archive = Path(shutil.make_archive(str(tmp_path / "z"), "zip", folder))

    def answer(handler: BaseHTTPRequestHandler) -> None:
        data = archive.read_bytes()
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    web_server.answer = answer
    digest = sha256_hex(archive.read_bytes())
    source = web_server.url.replace("//", "//me:hunter2@") + "/z.zip?sig=secret"
    summary = run(source, tmp_path / "out", sha256=digest)
    assert summary["source"] == f"{web_server.url}/z.zip"
    assert web_server.requests == [("/z.zip?sig=secret", None)]
    text = (tmp_path / "out/summary.json").read_text()
    assert "hunter2" not in text
    assert "secret" not in text


def test_counts_add_up(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "given", {"a": 9, "b c": 6, "größe": 7})
    shutil.copyfile(folder / "a/0.png", folder / "a/copy.png")
    (folder / "a/cut.png").write_bytes(picture(50)[:100])
    summary = run(folder, tmp_path / "out")
    table = rows(tmp_path / "out")
    assert summary["files"] == 24 == summary["distinct"] + summary["copies"] + summary["rejected"]
    assert summary["distinct"] == len(table) == 22
    for label, counts in summary["classes"].items():
        own = [row for row in table if row["label"] == label]
        assert counts["distinct"] == len(own)
        assert counts["files"] == sum(int(row["copies"]) for row in own)
        splits = Counter(row["split"] for row in own)
        assert all(counts[split] == splits[split] > 0 for split in ("train", "validation", "test"))
    assert "24 files, 22 distinct, 1 exact copies, 1 rejected" in report(summary)
    with (tmp_path / "out/rejected.csv").open(newline="") as file:
        (rejected,) = csv.DictReader(file)
    assert rejected["path"] == "a/cut.png"
    assert "PNG" in rejected["reason"]


def test_the_real_scans(tmp_path: Path) -> None:
    archive = os.environ.get("CHEST_CT_SCANS")
    if not archive:
        pytest.skip("CHEST_CT_SCANS does not name the zip of real scans")
    summary = run(archive, tmp_path / "out")
    assert (summary["files"], summary["distinct"], summary["rejected"]) == (343, 249, 0)
    distinct = {label: counts["distinct"] for label, counts in summary["classes"].items()}
    assert distinct == {"normal": 55, "adenocarcinoma": 194}
    table = rows(tmp_path / "out")
    split_of: dict[str, set[str]] = {}
    for row in table:
        split_of.setdefault(row["group"], set()).add(row["split"])
    assert all(len(splits) == 1 for splits in split_of.values())
    assert summary["groups_of_several_classes"] == 0
    assert {row["format"] for row in table} == {"PNG", "JPEG"}


def test_the_stage_draws_patients_and_keeps_masks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHEST_CT_PATIENT_SALT", "a salt for tests, long enough")
    summary = run("phantom", tmp_path / "out", phantom_images=0, phantom_patients=6)
    assert (summary["patients"], summary["phantom"]) == (6, True)
    masks = {path.stem for path in (tmp_path / "out/masks").iterdir()}
    assert len(masks) == summary["classes"]["adenocarcinoma"]["distinct"] > 0
    declared = DataIngestion()
    assert (declared.phantom_patients, declared.phantom_images) == (DEFAULT_PATIENTS, 0)


def test_a_table_of_labels(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "given", {"x": 12})
    lines = [f"{n}.png,{'ill' if n % 2 else 'well'},P{n % 6}" for n in range(12)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label,patient", *lines]))
    output, labels = tmp_path / "out", str(tmp_path / "labels.csv")
    summary = run(folder, output, labels=labels, group_distance_bits=0)
    assert (summary["patients"], summary["distinct_with_known_patient"]) == (6, 12)
    before = (output / "manifest.csv").read_bytes()
    (tmp_path / "labels.csv").write_text("path,label\n99.png,ill\n")
    with pytest.raises(SourceError, match="names no file of the source, by path, in line 2"):
        run(folder, output, labels=labels)
    assert (output / "manifest.csv").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["given", "labels.csv", "out"]


def test_a_file_that_changes_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = class_folders(tmp_path / "given", {"a": 5, "b": 5})
    real_copy = shutil.copyfile

    def changed_first(source: Path, target: Path) -> None:
        if source.name == "3.png" and source.parent.name == "a":
            source.write_bytes(picture(99))
        real_copy(source, target)

    monkeypatch.setattr(shutil, "copyfile", changed_first)
    with pytest.raises(SourceError, match=r"a/3.png changed while the scans were read"):
        run(folder, tmp_path / "out")

    def removed_first(source: Path, target: Path) -> None:
        source.unlink()
        real_copy(source, target)

    monkeypatch.setattr(shutil, "copyfile", removed_first)
    with pytest.raises(SourceError, match=r"png changed while the scans were read"):
        run(folder, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["given"]


def test_a_rejected_file_that_was_still_being_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = class_folders(tmp_path / "given", {"a": 5, "b": 5})
    whole = (folder / "a/4.png").read_bytes()
    (folder / "a/4.png").write_bytes(whole[:100])
    real_copy = shutil.copyfile

    def ended_meanwhile(source: Path, target: Path) -> None:
        (folder / "a/4.png").write_bytes(whole)
        real_copy(source, target)

    assert run(folder, tmp_path / "out")["rejected"] == 1
    before = (tmp_path / "out/manifest.csv").read_bytes()
    monkeypatch.setattr(shutil, "copyfile", ended_meanwhile)
    with pytest.raises(SourceError, match=r"a/4.png changed while the scans were read"):
        run(folder, tmp_path / "out")
    assert (tmp_path / "out/manifest.csv").read_bytes() == before


@pytest.mark.parametrize("before", ["scans.listing._unusable", "scans.inspection._inspect"])
def test_a_file_that_goes_away_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    folder = class_folders(tmp_path / "given", {"a": 5, "b": 5})
    module, _, name = before.rpartition(".")
    real = getattr(sys.modules[module], name)

    def removed(where: Path, path: PurePosixPath, **more: Any) -> Any:
        listed = real(where, path, **more) if name == "_unusable" else None
        if path.name == "2.png" and path.parent.name == "b":
            (where / path).unlink()
        return real(where, path, **more) if name == "_inspect" else listed

    monkeypatch.setattr(before, removed)
    with pytest.raises(SourceError, match=r"b/2.png changed while the scans were read"):
        run(folder, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["given"]
