"""A whole series from DICOM bytes to rows: against the bare network, and as a user would write it.

    python -m benchmarks.series --trained artifacts/training --scans FOLDER_OF_DICOM

The same slices are encoded in each transfer syntax. For each, the pyfunc scores the whole series
from its files' bytes; the bare network scores as many ready pixels; `as a user would` decodes with
pydicom's `pixel_array` and asks the Keras network (float32), one slice at a time. They take turns.
For JPEG lossless and JPEG-LS pydicom needs a plugin that this project does not (`pip install
python-gdcm pyjpegls`); without one these cells are nan. The last column names the plugin it took.
"""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import imagecodecs
import numpy as np
import pandas as pd
from pydicom import dcmread, uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder
from pydicom.pixels.encoders import RLELosslessEncoder

from benchmarks.bare_network import BareNetwork
from model.decoding.scan_file import decode_grey

NETWORK_BATCH = 16
WINDOW_HU = (-600.0, 1500.0)  # centre and width, a lung window


def _rle(stored: np.ndarray) -> bytes:
    rows, columns = stored.shape
    encoded: bytes = RLELosslessEncoder.encode(
        stored.tobytes(), rows=rows, columns=columns, samples_per_pixel=1,
        photometric_interpretation="MONOCHROME2", bits_allocated=16, bits_stored=16,
        pixel_representation=0, number_of_frames=1,
    )  # fmt: skip
    return encoded


ENCODERS: dict[str, tuple[uid.UID, Callable[[np.ndarray], bytes] | None]] = {
    "uncompressed": (uid.ExplicitVRLittleEndian, None),
    "JPEG lossless": (
        uid.JPEGLosslessSV1,
        lambda a: imagecodecs.jpeg8_encode(a, lossless=True, bitspersample=16),
    ),
    "JPEG 2000": (
        uid.JPEG2000Lossless,
        lambda a: imagecodecs.jpeg2k_encode(a, codecformat="j2k", reversible=True),
    ),
    "JPEG-LS": (uid.JPEGLSLossless, imagecodecs.jpegls_encode),
    "RLE": (uid.RLELossless, _rle),
}


def encoded(file: Path, syntax: str) -> bytes:
    """Return an uncompressed slice in another transfer syntax, its pixels as they are."""
    ds = dcmread(file)
    target, encode = ENCODERS[syntax]
    if encode is not None:
        stored = np.frombuffer(ds.PixelData, np.uint16).reshape(ds.Rows, ds.Columns)
        ds.PixelData = encapsulate([encode(np.ascontiguousarray(stored))])
        ds["PixelData"].VR = "OB"
        ds["PixelData"].is_undefined_length = True
    ds.file_meta.TransferSyntaxUID = target
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def as_a_user_would(network: Any, side_px: int, data: bytes) -> Any:
    """Decode, window, resize and score one slice."""
    from PIL import Image

    ds: Dataset = dcmread(io.BytesIO(data))
    hu = ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept)
    low = WINDOW_HU[0] - WINDOW_HU[1] / 2
    grey = np.clip((hu - low) / WINDOW_HU[1], 0, 1) * 255
    picture = Image.fromarray(grey.astype(np.uint8)).resize((side_px, side_px))
    pixels = np.repeat(np.asarray(picture)[np.newaxis, :, :, np.newaxis], 3, axis=3)
    return network.predict(pixels[..., : network.input_shape[-1]], verbose=0)


def plugin_of(syntax: uid.UID) -> str:
    """Return the plugin with which pydicom decodes a transfer syntax: the first that it has."""
    if not syntax.is_encapsulated:
        return "-"
    return next(iter(get_decoder(syntax).available_plugins), "none")


def seconds(turn: Callable[[], object]) -> tuple[float, float]:
    """Return wall and processor time of a turn."""
    wall, processor = time.perf_counter(), time.process_time()
    turn()
    return time.perf_counter() - wall, time.process_time() - processor


def one_round(
    images: list[bytes], some: list[bytes], pyfunc: Any, bare: BareNetwork, network: Any
) -> tuple[float, ...]:
    """Let each way take a turn.

    Returns:
        Slices/s of the pyfunc; the same over the bare network's; milliseconds of processor time
        that decoding takes a slice, and its share of the pyfunc's; slices/s as a user would;
        the pyfunc's over those.
    """
    frame = pd.DataFrame({"image": pd.Series(images, dtype=object)})
    calls = -(-len(images) // NETWORK_BATCH)
    side_px = network.input_shape[1]
    whole, whole_cpu = seconds(lambda: all_scored(pyfunc.predict(frame)))
    ready, _ = seconds(lambda: [bare.infer() for _ in range(calls)])
    _, decoding_cpu = seconds(lambda: [decode_grey(image) for image in images])
    try:
        user, _ = seconds(lambda: [as_a_user_would(network, side_px, one) for one in some])
    except RuntimeError:  # pydicom alone cannot decompress this syntax
        user = np.nan
    speed, user_speed = len(images) / whole, len(some) / user
    return (
        speed,
        speed / (calls * NETWORK_BATCH / ready),
        decoding_cpu / len(images) * 1000,
        decoding_cpu / whole_cpu,
        user_speed,
        speed / user_speed,
    )


def all_scored(rows: pd.DataFrame) -> None:
    """Raise unless each row has an answer."""
    if failed := [error for error in rows["error"] if error is not None]:
        raise click.ClickException(f"{len(failed)} slices failed: {failed[0]}")


@click.command(help=__doc__)
@click.option("--trained", type=click.Path(path_type=Path), default=Path("artifacts/training"))
@click.option(
    "--model", type=click.Path(path_type=Path), help="Of the pyfunc, if it is not in --trained."
)
@click.option(
    "--scans", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True
)
@click.option("--slices", default=64, show_default=True)
@click.option("--user-slices", default=8, show_default=True, help="A turn, as a user would.")
@click.option("--rounds", default=3, show_default=True)
def main(
    trained: Path, model: Path | None, scans: Path, slices: int, user_slices: int, rounds: int
) -> None:
    import keras
    import mlflow

    files = [
        path
        for path in sorted(scans.rglob("*.dcm"))
        if dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID
        in (uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian)
    ][:slices]
    if not files:
        raise click.ClickException(f"Expected uncompressed DICOM slices in {scans}, found none.")
    folder = model or trained / "model"
    pyfunc = mlflow.pyfunc.load_model(str(folder))
    bare = BareNetwork(folder, NETWORK_BATCH)
    network = keras.models.load_model(trained / "model.keras")
    network.predict(np.zeros((1, *network.input_shape[1:]), np.uint8), verbose=0)
    print(f"{len(files)} slices of {files[0].parent.name}; median of {rounds} rounds")
    head = (
        "",
        "kB",
        "slices/s",
        "of bare",
        "decode ms",
        "share",
        "user slices/s",
        "times user",
        "its plugin",
    )
    print(("{:<14}" + "{:>10}" * 5 + "{:>15}{:>12}{:>14}").format(*head))
    for syntax in ENCODERS:
        images = [encoded(file, syntax) for file in files]
        measured = [
            one_round(images, images[:user_slices], pyfunc, bare, network) for _ in range(rounds)
        ]
        speed, ratio, decode_ms, share, user_speed, times = (
            statistics.median(column) for column in zip(*measured, strict=True)
        )
        size_kb = sum(map(len, images)) / len(images) / 1000
        print(
            f"{syntax:<14}{size_kb:>10.0f}{speed:>10.1f}{ratio:>10.2f}{decode_ms:>10.1f}"
            f"{share:>10.0%}{user_speed:>15.1f}{times:>11.1f}x{plugin_of(ENCODERS[syntax][0]):>14}",
            flush=True,
        )


if __name__ == "__main__":
    main()
