"""Scoring scans: the pyfunc against the bare network and against Keras, in one run.

    python -m benchmarks.scoring --trained artifacts/training --data artifacts/data_ingestion

Every way scores the same scans from their file bytes, in turns, so that a machine whose speed
drifts treats them alike; `bare network` starts from ready pixels. Load time and peak memory are
measured in processes of their own.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd

from steps.tensorflow_quietly import import_quietly

# One process each: import, load, first row; then the peak of resident memory, in bytes.
READY = {
    "pyfunc": """
import mlflow.pyfunc, pandas as pd
model = mlflow.pyfunc.load_model(trained + "/model")
rows = model.predict(pd.DataFrame({"image": [scan]}))
assert rows["error"][0] is None
""",
    "Keras": """
import keras, numpy as np, io
from PIL import Image
model = keras.models.load_model(trained + "/model.keras")
side = model.input_shape[1]
pixels = np.asarray(Image.open(io.BytesIO(scan)).convert("RGB").resize((side, side)))
model.predict(pixels[np.newaxis], verbose=0)
""",
}
MEASURE = """
import json, re, sys, time
start = time.perf_counter()
trained, scan = sys.argv[1], open(sys.argv[2], "rb").read()
{code}
ready_s = time.perf_counter() - start
# Not ru_maxrss: that one starts from the parent's, which has Keras loaded. Linux only.
peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) * 1024
print(json.dumps([ready_s, peak]))
"""


def ready(way: str, trained: Path, scan: Path, repeats: int) -> tuple[float, float]:
    """Return the median seconds from start to first row, and the peak memory in MB."""
    results = []
    for _ in range(repeats):
        code = MEASURE.format(code=READY[way])
        done = subprocess.run(
            [sys.executable, "-c", code, str(trained.resolve()), str(scan)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        results.append(json.loads(done.stdout.splitlines()[-1]))
    seconds, peak = (statistics.median(column) for column in zip(*results, strict=True))
    return seconds, peak / 1e6


def ways(trained: Path, images: list[bytes]) -> dict[str, Callable[[list[int]], Any]]:
    """Return each way of scoring: a function of the positions of a batch in `images`."""
    import_quietly()
    import keras
    import mlflow

    from model.artefact import NETWORK, Card
    from model.preprocessing import scan_pixels
    from model.runtime import Runtime

    folder = trained / "model" / "artifacts" / "network"
    card = Card.read(folder)
    pyfunc = mlflow.pyfunc.load_model(str(trained / "model"))
    network = keras.models.load_model(trained / "model.keras")
    runtime = Runtime(folder / NETWORK, card.precision)
    pixels = np.stack([scan_pixels(image, card.preprocessing) for image in images])

    def keras_way(batch: list[int]) -> Any:
        decoded = np.stack([scan_pixels(images[i], card.preprocessing) for i in batch])
        return network.predict(decoded, verbose=0)

    return {
        "Keras float32": keras_way,
        "pyfunc": lambda batch: pyfunc.predict(pd.DataFrame({"image": [images[i] for i in batch]})),
        "bare network": lambda batch: runtime(pixels[batch]),
    }


def scans_per_second(way: Callable[[list[int]], Any], count: int, batch_size: int) -> float:
    """Time one pass over all scans."""
    start = time.perf_counter()
    for first in range(0, count, batch_size):
        way(list(range(first, min(first + batch_size, count))))
    return count / (time.perf_counter() - start)


@click.command(help=__doc__)
@click.option("--trained", type=click.Path(path_type=Path), default=Path("artifacts/training"))
@click.option("--data", type=click.Path(path_type=Path), default=Path("artifacts/data_ingestion"))
@click.option("--scans", type=click.IntRange(1), default=64)
@click.option("--repeats", type=click.IntRange(1), default=5)
def main(trained: Path, data: Path, scans: int, repeats: int) -> None:
    from scans.manifest import read_manifest

    paths = [data / row.path for row in read_manifest(data)][:scans]
    images = [path.read_bytes() for path in paths]
    by_way = ways(trained, images)
    for batch_size in (1, 16):
        speeds: dict[str, list[float]] = {name: [] for name in by_way}
        for way in by_way.values():  # one pass to warm up
            scans_per_second(way, min(16, len(images)), batch_size)
        for _ in range(repeats):
            for name, way in by_way.items():
                speeds[name].append(scans_per_second(way, len(images), batch_size))
        print(f"\n{len(images)} scans, batch {batch_size}: median of {repeats} passes")
        print(f"{'':<16}{'scans/s':>9}{'pyfunc is':>14}")
        for name, values in speeds.items():
            ratio = statistics.median(p / v for p, v in zip(speeds["pyfunc"], values, strict=True))
            print(f"{name:<16}{statistics.median(values):>9.1f}{ratio:>12.2f} x")
    print(f"\nready: import, load, first row; median of {repeats} processes")
    print(f"{'':<16}{'seconds':>9}{'peak MB':>9}")
    for name in READY:
        seconds, peak_mb = ready(name, trained, paths[0], repeats)
        print(f"{name:<16}{seconds:>9.1f}{peak_mb:>9.0f}")


if __name__ == "__main__":
    main()
