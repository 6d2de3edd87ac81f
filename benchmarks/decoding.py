"""Time the decoder on real files against Pillow alone, in one run.

python -m benchmarks.decoding path/to/scans.zip
"""

from __future__ import annotations

import io
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
from PIL import Image

from model.decoding.errors import ScanError
from model.decoding.scan_file import decode_grey
from model.preprocessing import Preprocessing, scan_pixels


def read_files(source: Path) -> list[bytes]:
    """Read every file of a zip or a folder."""
    if source.is_dir():
        return [path.read_bytes() for path in sorted(source.rglob("*")) if path.is_file()]
    with zipfile.ZipFile(source) as archive:
        return [archive.read(name) for name in archive.namelist() if not name.endswith("/")]


def pillow_alone(data: bytes) -> np.ndarray:
    """Decode and resize as the usual three lines do, with no check of anything."""
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB").resize((224, 224), Image.Resampling.BILINEAR))


def milliseconds_per_file(function: Callable[[bytes], object], files: list[bytes]) -> float:
    """Return the mean wall time of one pass over all files."""
    start = time.perf_counter()
    for data in files:
        function(data)
    return (time.perf_counter() - start) / len(files) * 1000


@click.command()
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.option("--repeats", default=5, show_default=True, help="Passes; the fastest counts.")
def main(source: Path, repeats: int) -> None:
    """Time decoding of every picture in SOURCE, a zip or a folder."""
    files = []
    for data in read_files(source):
        try:
            decode_grey(data)
        except ScanError as error:
            print(f"left out: {error}", file=sys.stderr)
        else:
            files.append(data)
    if not files:
        raise click.ClickException(f"Expected pictures in {source}, found none; name their folder.")
    settings = Preprocessing()
    ways: dict[str, Callable[[bytes], object]] = {
        "Pillow alone, RGB 224 x 224": pillow_alone,
        "decode_grey, own size": decode_grey,
        "scan_pixels, the network's input": lambda data: scan_pixels(data, settings),
    }
    fastest = {
        name: min(milliseconds_per_file(way, files) for _ in range(repeats))
        for name, way in ways.items()
    }
    reference = fastest["Pillow alone, RGB 224 x 224"]
    print(f"{len(files)} files; fastest of {repeats} passes")
    for name, time_ms in fastest.items():
        print(f"{name:34} {time_ms:7.2f} ms a file  {time_ms / reference:5.2f} x Pillow alone")


if __name__ == "__main__":
    main()
