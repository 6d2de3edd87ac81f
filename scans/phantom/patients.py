"""Write synthetic patients as class folders of DICOM series."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from scans.errors import SourceError
from scans.phantom.drawing import CLASSES
from scans.phantom.volumes import (
    SIDE_PX,
    SPACING_MM,
    THICKNESS_MM,
    DrawnPatient,
    DrawnSlice,
    Framing,
    draw_patient,
    random_framing,
)
from scans.progress import progress

AXIAL = [1, 0, 0, 0, 1, 0]
INTERCEPT_HU = -1024
BITS = 12
DEFAULT_PATIENTS = 48  # 240 slices
PAIRS_TO_TWO_SERIES = 4  # one pair of patients in so many has two series, the others have one


def write_phantom_patients(
    folder: Path, masks: Path, *, patients: int = DEFAULT_PATIENTS, seed: int = 0
) -> None:
    """Write a folder of class folders, and the nodules' masks.

    A slice lies in the class folder of what it shows: the slices of a patient with nodules that
    show none are normal.

    Args:
        folder: gets `<class>/<patient>/<series>/<patient>-<series>-<slice>.dcm`.
        masks: gets `<patient>-<series>-<slice>.png` for each slice with a nodule: 8-bit grey, 255
            on the nodule and 0 elsewhere, of the slice's size.
        patients: how many, half of them with nodules.
        seed: of the whole set.

    Raises:
        SourceError: fewer patients than there are splits for each class.
    """
    if patients < 2 * 3:
        raise SourceError(
            "Expected phantom_patients of at least 6, three with nodules and three without; or "
            f"phantom_images above 0, for single slices. Received: {patients}"
        )
    masks.mkdir(parents=True, exist_ok=True)
    for number in progress(range(patients), "Drawing phantoms", "patient"):
        pair = number // 2
        series = 2 if pair % PAIRS_TO_TWO_SERIES == 1 else 1
        framing = random_framing(np.random.default_rng((seed, pair)), series)
        # Odd numbers have nodules; the two of a pair are different people.
        patient = draw_patient((seed, number), framing, nodule=number % 2 == 1)
        _write_patient(patient, framing, f"phantom-{number:04d}", seed, folder, masks)


def _write_patient(
    patient: DrawnPatient, framing: Framing, name: str, seed: int, folder: Path, masks: Path
) -> None:
    sick, normal = CLASSES
    for series_number, slices in enumerate(patient.series, start=1):
        for slice_number, drawn in enumerate(slices, start=1):
            label = sick if drawn.nodule_mask.any() else normal
            file = f"{name}-{series_number}-{slice_number:02d}"
            here = folder / label / name / str(series_number)
            here.mkdir(parents=True, exist_ok=True)
            dataset = _dicom(drawn, patient.mm_per_px, framing, name, series_number, seed)
            dataset.InstanceNumber = slice_number
            dataset.save_as(here / f"{file}.dcm", enforce_file_format=True)
            if drawn.nodule_mask.any():
                mask = drawn.nodule_mask.astype(np.uint8) * 255
                Image.fromarray(mask).save(masks / f"{file}.png")


def _dicom(
    drawn: DrawnSlice,
    mm_per_px: float,
    framing: Framing,
    name: str,
    series_number: int,
    seed: int,
) -> FileDataset:
    """Return a slice as a CT image (PS3.3 A.3)."""
    kernel = framing.kernels[series_number - 1]
    study = [str(seed), name]
    instance = generate_uid(entropy_srcs=[*study, kernel.name, str(drawn.position_mm)])
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = instance
    stored = np.clip(drawn.hu - INTERCEPT_HU, 0, 2**BITS - 1).round().astype("<u2")
    corner_mm = -mm_per_px * SIDE_PX / 2
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    for keyword, value in {
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": instance,
        "StudyInstanceUID": generate_uid(entropy_srcs=study),
        "SeriesInstanceUID": generate_uid(entropy_srcs=[*study, kernel.name]),
        "FrameOfReferenceUID": generate_uid(entropy_srcs=[*study, "frame"]),
        "SeriesNumber": series_number,
        "Modality": "CT",
        "ImageType": ["DERIVED", "SECONDARY", "AXIAL"],
        "PatientName": "Phantom^Drawn",
        "PatientID": name,
        "PatientPosition": "HFS",
        "Manufacturer": framing.scanner.manufacturer,
        "ConvolutionKernel": kernel.name,
        "SliceThickness": THICKNESS_MM,
        "SpacingBetweenSlices": SPACING_MM,
        "PixelSpacing": [round(mm_per_px, 6)] * 2,
        "ImageOrientationPatient": AXIAL,
        "ImagePositionPatient": [round(corner_mm, 4), round(corner_mm, 4), drawn.position_mm],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": SIDE_PX,
        "Columns": SIDE_PX,
        "BitsAllocated": 16,
        "BitsStored": BITS,
        "HighBit": BITS - 1,
        "PixelRepresentation": 0,
        "RescaleIntercept": INTERCEPT_HU,
        "RescaleSlope": 1,
        "PixelData": stored.tobytes(),
    }.items():
        setattr(dataset, keyword, value)
    return dataset
