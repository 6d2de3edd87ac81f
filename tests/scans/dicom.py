"""Small DICOM slices for tests."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def dicom_slice(seed: int, **elements: Any) -> bytes:
    """Return a CT slice of coarse random patches as a DICOM file.

    Args:
        seed: of the patches; no two seeds give near-duplicates.
        elements: by keyword; None takes an element out.
    """
    patches = np.random.default_rng(seed).integers(0, 2000, (16, 16), dtype=np.uint16)
    pixels = np.kron(patches, np.ones((4, 4), dtype=np.uint16))
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = elements.pop("MediaStorageSOPClassUID", CTImageStorage)
    meta.MediaStorageSOPInstanceUID = f"1.2.3.{seed}"
    dataset = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    values = {
        "SOPClassUID": CTImageStorage, "SOPInstanceUID": f"1.2.3.{seed}", "Modality": "CT",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"], "Manufacturer": "ACME",
        "PatientID": "P1", "StudyInstanceUID": "1.2.4", "SeriesInstanceUID": "1.2.5",
        "ImageOrientationPatient": list(AXIAL), "ImagePositionPatient": [0, 0, float(seed)],
        "SliceThickness": 1.5, "ConvolutionKernel": "B40f", "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2", "Rows": 64, "Columns": 64,
        "BitsAllocated": 16, "BitsStored": 12, "HighBit": 11, "PixelRepresentation": 0,
        "RescaleSlope": 1, "RescaleIntercept": -1024, "PixelData": pixels.tobytes(),
    }  # fmt: skip
    for keyword, value in (values | elements).items():
        if value is not None:
            setattr(dataset, keyword, value)
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()
