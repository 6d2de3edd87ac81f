"""Build a `DicomHeader` from the raw bytes of a file's elements."""

from __future__ import annotations

import math
from collections.abc import Mapping

from pydicom.charset import python_encoding

from .decoded import DicomHeader

HEADER_ELEMENTS = (
    "SpecificCharacterSet",
    "ImageType",
    "SOPClassUID",
    "SOPInstanceUID",
    "Modality",
    "Manufacturer",
    "PatientID",
    "IssuerOfPatientID",
    "SliceThickness",
    "PixelSpacing",
    "ConvolutionKernel",
    "NumberOfFrames",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "ImagePositionPatient",
    "ImageOrientationPatient",
)


def header_of(raw: Mapping[str, bytes]) -> DicomHeader:
    """Build the header.

    Args:
        raw: value of each of `HEADER_ELEMENTS` as it stands in the file, b'' where it is missing.

    Returns:
        The header. What cannot be read (text where a number belongs) is as if it were missing.
    """
    codec = _codec(raw["SpecificCharacterSet"])
    text = {keyword: _text(raw[keyword], codec) for keyword in HEADER_ELEMENTS}
    return DicomHeader(
        sop_class_uid=text["SOPClassUID"],
        modality=text["Modality"],
        image_type=tuple(value.strip() for value in text["ImageType"].split("\\") if value.strip()),
        patient_id=text["PatientID"],
        patient_id_issuer=text["IssuerOfPatientID"],
        study_uid=text["StudyInstanceUID"],
        series_uid=text["SeriesInstanceUID"],
        sop_instance_uid=text["SOPInstanceUID"],
        orientation=_numbers(text["ImageOrientationPatient"], 6),
        position_mm=_numbers(text["ImagePositionPatient"], 3),
        slice_thickness_mm=(_numbers(text["SliceThickness"], 1) or (None,))[0],
        pixel_spacing_mm=_numbers(text["PixelSpacing"], 2),
        manufacturer=text["Manufacturer"],
        kernel=text["ConvolutionKernel"],
        frames=int((_numbers(text["NumberOfFrames"], 1) or (1,))[0]),
    )


def _codec(charset: bytes) -> str:
    """Return Python's name of the first Specific Character Set, PS3.3 C.12.1.1.2."""
    first = charset.decode("ascii", "replace").split("\\")[0].strip(" \0")
    return python_encoding.get(first, "latin-1") if first else "latin-1"


def _text(value: bytes, codec: str) -> str:
    """Decode an element without its padding; the padding of a UID is a null."""
    return value.decode("ascii" if value.isascii() else codec, "replace").strip(" \0")


def _numbers(text: str, count: int) -> tuple[float, ...] | None:
    """Parse a decimal string of `count` values, None where it is none."""
    try:
        values = tuple(float(part) for part in text.split("\\"))
    except ValueError:
        return None
    return values if len(values) == count and all(map(math.isfinite, values)) else None
