"""Time `data_ingestion` on trees of DICOM, and measure its memory, beside the usual short script.

    python -m benchmarks.ingestion --files 1000 --files 10000
    python -m benchmarks.ingestion --files 100000 --side-px 64

Each tree holds patients of 50 slices in two series, drawn as phantoms, without extensions, a
localizer and a report for each patient, and a table of labels by patient. The rival reads the same
tree as people do at first: one process, pydicom's pixel_array, SHA-256, and a copy of the file. It
groups nothing and checks nothing. Memory is that of all processes together, shared pages counted
once (PSS). Both are timed with whatever of the tree is in the page cache.
"""

from __future__ import annotations

import hashlib
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import psutil
import pydicom
from joblib import Parallel, delayed
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset

from scans.phantom.patients import write_phantom_patients

ROOT = Path(__file__).resolve().parents[1]
SLICES_OF_PATIENT = 50
DRAWN_PATIENTS = 8  # whose slices lend their anatomy to all
PATCHES = 16  # random ones a side: no two slices are near-duplicates, as of different people
SAMPLE_S = 0.25
MIB = 2**20


@dataclass(frozen=True)
class Measured:
    """What one run cost."""

    name: str
    files: int
    wall_s: float
    processor_s: float
    peak_mib: float

    def row(self) -> str:
        """Return a row of the table."""
        return (
            f"| {self.name} | {self.files:,} | {self.wall_s:.1f} | {self.files / self.wall_s:.0f} "
            f"| {self.processor_s:.0f} | {self.peak_mib:.0f} |"
        )


def write_tree(folder: Path, files: int, side_px: int) -> None:
    """Write a tree of DICOM and `labels.csv` beside it.

    Args:
        folder: gets `<patient>/<number>` without extensions.
        files: slices, localizers and reports together, about.
        side_px: of the slices.
    """
    patients = max(6, round(files / (SLICES_OF_PATIENT + 2)))
    drawn = _drawn(side_px)
    write = delayed(_write_patient)
    Parallel(n_jobs=os.cpu_count())(
        write(folder / f"patient-{number:05d}", number, drawn[number % len(drawn)])
        for number in range(patients)
    )
    lines = [f"bench-{n:05d},{'ill' if n % 2 else 'well'}" for n in range(patients)]
    folder.with_name("labels.csv").write_text("\n".join(["patient,label", *lines]) + "\n")


def _drawn(side_px: int) -> list[tuple[Dataset, list[NDArray[np.float32]]]]:
    """Return phantoms: a data set of each, and its slices' stored values in the wanted size."""
    found = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_phantom_patients(folder / "scans", folder / "masks", patients=DRAWN_PATIENTS)
        for number in range(DRAWN_PATIENTS):
            paths = sorted((folder / "scans").rglob(f"phantom-{number:04d}-1-*.dcm"))
            sets = [pydicom.dcmread(path) for path in sorted(paths, key=lambda path: path.name)]
            pictures = [Image.fromarray(one.pixel_array.astype(np.float32)) for one in sets]
            sets[0].Rows = sets[0].Columns = side_px
            slices = [np.asarray(picture.resize((side_px, side_px))) for picture in pictures]
            found.append((sets[0], slices))
    return found


def _write_patient(
    folder: Path, number: int, drawn: tuple[Dataset, list[NDArray[np.float32]]]
) -> None:
    folder.mkdir(parents=True)
    dataset, slices = drawn
    dataset.PatientID = f"bench-{number:05d}"
    dataset.StudyInstanceUID = f"1.2.826.0.1.{number}"
    rng = np.random.default_rng(number)
    for place in range(SLICES_OF_PATIENT):
        dataset.SeriesInstanceUID = f"1.2.826.0.1.{number}.{place % 2}"
        dataset.SOPInstanceUID = f"1.2.826.0.1.{number}.9.{place}"
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.ImagePositionPatient = [-150, -150, 5.0 * (place // 2)]
        patches = rng.uniform(-400, 400, (PATCHES, PATCHES)).astype(np.float32)
        field = Image.fromarray(patches).resize((dataset.Columns, dataset.Rows))
        values = slices[place % len(slices)] + np.asarray(field)
        dataset.PixelData = values.clip(0, 4095).astype("<u2").tobytes()
        dataset.save_as(folder / str(place), enforce_file_format=True)
    for name, element, value in (
        ("localizer", "ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"]),
        ("report", "Modality", "SR"),
    ):
        kept = dataset[element].value
        setattr(dataset, element, value)
        dataset.save_as(folder / name, enforce_file_format=True)
        setattr(dataset, element, kept)


def rival(folder: Path, output: Path) -> None:
    """Read a tree in one process with pydicom, hash each file and copy it once."""
    seen = set()
    output.mkdir()
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        pixels = pydicom.dcmread(path).pixel_array
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if pixels.ndim == 2 and digest not in seen:
            seen.add(digest)
            shutil.copyfile(path, output / digest)


def measured(name: str, files: int, command: list[str], folder: Path) -> Measured:
    """Run a command in a folder and measure it with all its processes."""
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "CHEST_CT_PATIENT_SALT": "a salt for benchmarks only",
    }
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        peak = max(peak, _memory(process.pid))
        time.sleep(SAMPLE_S)
    wall_s = time.perf_counter() - started
    if process.returncode:
        raise click.ClickException(f"{name} ended with exit code {process.returncode}; see above.")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Measured(name, files, wall_s, processor_s, peak / MIB)


def _memory(pid: int) -> int:
    """Return the bytes that a process and all below it hold."""
    total = 0
    try:
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            total += process.memory_full_info().pss
    except psutil.Error:  # it ended meanwhile
        pass
    return total


@click.command()
@click.option("--files", multiple=True, type=click.IntRange(100), default=(1000, 10_000))
@click.option("--side-px", type=click.IntRange(64), default=512, show_default=True)
@click.option("--work", type=click.Path(path_type=Path), help="Where trees are kept between runs.")
@click.option("--make-only", is_flag=True, help="Write the trees and measure nothing.")
@click.option("--rival/--no-rival", "with_rival", default=True, show_default=True)
@click.option("--only-rival", type=click.Path(path_type=Path), nargs=2, hidden=True)
def main(
    files: tuple[int, ...],
    side_px: int,
    work: Path | None,
    make_only: bool,
    with_rival: bool,
    only_rival: tuple[Path, Path] | None,
) -> None:
    """Measure ingestion of trees of so many files."""
    if only_rival:
        rival(*only_rival)
        return
    with tempfile.TemporaryDirectory() as temporary:
        base = (work or Path(temporary)).absolute()
        for count in files:
            if not (base / f"{count}-{side_px}/labels.csv").is_file():
                write_tree(base / f"{count}-{side_px}/tree", count, side_px)
        if make_only:
            return
        click.echo("| what | files | wall, s | files/s | processor time, s | peak, MiB |")
        click.echo("|---|---|---|---|---|---|")
        for count in files:
            click.echo(_ingestion(base / f"{count}-{side_px}", Path(temporary)).row())
        if with_rival:
            for count in files:
                click.echo(_rival(base / f"{count}-{side_px}", Path(temporary)).row())


def _ingestion(folder: Path, temporary: Path) -> Measured:
    words = [sys.executable, "-m", "steps.data_ingestion", "--source", str(folder / "tree")]
    words += ["--labels", str(folder / "labels.csv"), "--output", str(temporary / "output")]
    words += ["--params", str(ROOT / "params.yaml"), "--max-files", "1000000"]
    found = measured("data_ingestion", _count(folder), words, temporary)
    shutil.rmtree(temporary / "output")
    return found


def _rival(folder: Path, temporary: Path) -> Measured:
    words = [sys.executable, "-m", "benchmarks.ingestion", "--only-rival", str(folder / "tree")]
    words.append(str(temporary / "copies"))
    name = "one process, pydicom's pixel_array, SHA-256"
    found = measured(name, _count(folder), words, temporary)
    shutil.rmtree(temporary / "copies")
    return found


def _count(folder: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(folder / "tree"))


if __name__ == "__main__":
    main()
