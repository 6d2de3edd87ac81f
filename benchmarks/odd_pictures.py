"""Pictures to try the out-of-domain flag on: chest CT from elsewhere, and what is none."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from benchmarks.recipe_scans import ARCHIVES
from model.body import body_box
from model.decoding.scan_file import decode_grey
from steps.evaluation.non_scans import usable

FACES = 10  # of the 100 faces that scikit-image ships
LUNG_WINDOW_HU = (-1350.0, 150.0)
LUNG_LEVEL = 110  # in that window: darker than -700 HU is lung, airway or bowel gas
LUNG_SHARE, ABDOMEN_SHARE = 0.10, 0.01  # of the body's box: at least, or below
SLICES = {"LIDC-IDRI": "lidc", "Lung-PET-CT-Dx": "lungdx", "COVID-19-NY-SBU": "covid"}
REFORMATS = ("coronal", "sagittal")


def scikit_image_pictures() -> dict[str, list[bytes]]:
    """Read the photographs, textures and micrographs inside the scikit-image wheel."""
    import skimage

    folder = Path(skimage.__file__).parent / "data"
    found: dict[str, list[bytes]] = {"scikit-image pictures": [], "faces": []}
    for path in sorted(folder.iterdir()):
        if path.suffix in (".png", ".jpg"):
            with Image.open(path) as picture:
                if usable(*picture.size):
                    found["scikit-image pictures"].append(path.read_bytes())
    faces = np.load(folder / "lfw_subset.npy")[:: 100 // FACES][:FACES]
    found["faces"] = [png((face * 255).astype(np.uint8), (100, 100)) for face in faces]
    return found


def slices_by_region(folder: Path) -> tuple[dict[str, list[bytes]], dict[str, list[bytes]]]:
    """Sort the DICOM slices of public collections by how much lung they show.

    Args:
        folder: of the collections' zips, see benchmarks.recipe_scans.ARCHIVES.

    Returns:
        By collection and region: files that are chest CT (`lungs`, and `ends`: slices at the end
        of the lungs), and files that are not (`abdomen`, and `coronal` and `sagittal` reformats,
        as pictures, since DICOM of those is refused).
    """
    chest: dict[str, list[bytes]] = {}
    other: dict[str, list[bytes]] = {}
    for collection, source in SLICES.items():
        for name, data in dicom_files(folder / ARCHIVES[source]):
            plane = next((plane for plane in REFORMATS if f"/{plane}/" in name), None)
            if plane:
                other.setdefault(f"{collection}, {plane}", []).append(png(lung_window(data)))
                continue
            share = lung_share(decode_grey(data))
            region = "lungs" if share >= LUNG_SHARE else "ends"
            if share < ABDOMEN_SHARE:
                other.setdefault(f"{collection}, no lung", []).append(data)
            else:
                chest.setdefault(f"{collection}, {region}", []).append(data)
    return chest, other


def dicom_files(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the bytes of each DICOM file in a zip."""
    with zipfile.ZipFile(archive) as files:
        for name in sorted(files.namelist()):
            if name.endswith(".dcm"):
                yield name, files.read(name)


def lung_share(grey: NDArray[np.uint8]) -> float:
    """Return the share of the body's box that is dark and closed off from the picture's edge.

    Args:
        grey: (height, width), in the lung window.
    """
    pieces, _ = ndimage.label(grey < LUNG_LEVEL)
    edge = np.unique(np.concatenate([pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]]))
    inside = (pieces > 0) & ~np.isin(pieces, edge)
    left, top, right, bottom = body_box(grey)
    return float(inside.mean() / ((right - left) * (bottom - top)))


def lung_window(data: bytes) -> NDArray[np.uint8]:
    """Show a DICOM slice of any plane as the product shows axial ones."""
    dataset = pydicom.dcmread(io.BytesIO(data))
    hounsfield = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
    low, high = LUNG_WINDOW_HU
    shown: NDArray[np.uint8] = (
        ((hounsfield - low) / (high - low) * 255).clip(0, 255).astype(np.uint8)
    )
    return shown


def png(grey: NDArray[np.uint8], size_px: tuple[int, int] | None = None) -> bytes:
    """Write grey levels as PNG."""
    picture = Image.fromarray(grey)
    file = io.BytesIO()
    (picture.resize(size_px) if size_px else picture).save(file, "PNG")
    return file.getvalue()
