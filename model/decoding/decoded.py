"""What decoding a scan's file gives: grey levels, and what the file says of itself."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class DicomHeader:
    """Elements of a DICOM slice that data sets are built from; '' or None where the file has none.

    Identifiers are not in `repr`, so that none reaches a log by accident. Never put the patient's
    into a row, a message or a file: `scans/` keeps only a keyed hash of them.

    Attributes:
        sop_class_uid: kind of object, PS3.4 B.5.
        modality: "CT" as a rule.
        image_type: values of Image Type, PS3.3 C.7.6.1.1.2.
        patient_id, patient_id_issuer: Patient ID and Issuer of Patient ID.
        study_uid, series_uid, sop_instance_uid: Study, Series and SOP Instance UID.
        orientation: direction cosines of a row and of a column, six numbers, PS3.3 C.7.6.2.1.1.
        position_mm: x, y, z of the first pixel in the patient's coordinates.
        slice_thickness_mm: Slice Thickness.
        pixel_spacing_mm: between rows and between columns, PS3.3 10.7.1.3.
        manufacturer: of the scanner.
        kernel: Convolution Kernel of the reconstruction; several values joined by a backslash.
        frames: Number of Frames.
    """

    sop_class_uid: str = ""
    modality: str = ""
    image_type: tuple[str, ...] = ()
    patient_id: str = field(default="", repr=False)
    patient_id_issuer: str = field(default="", repr=False)
    study_uid: str = field(default="", repr=False)
    series_uid: str = field(default="", repr=False)
    sop_instance_uid: str = field(default="", repr=False)
    orientation: tuple[float, ...] | None = None
    position_mm: tuple[float, ...] | None = None
    slice_thickness_mm: float | None = None
    pixel_spacing_mm: tuple[float, ...] | None = None
    manufacturer: str = ""
    kernel: str = ""
    frames: int = 1

    @property
    def normal(self) -> tuple[float, float, float] | None:
        """Unit vector along which slices are stacked, None where the file gives no direction.

        It is the cross product of the directions of a row and a column, PS3.3 C.7.6.2.1.1.
        """
        if self.orientation is None:
            return None
        a, b, c, d, e, f = self.orientation
        cross = (b * f - c * e, c * d - a * f, a * e - b * d)
        length = math.hypot(*cross)
        if not 0.5 < length < 2:  # neither perpendicular nor of unit length: no direction at all
            return None
        return cross[0] / length, cross[1] / length, cross[2] / length

    @property
    def position_along_normal_mm(self) -> float | None:
        """Position of the slice in its stack, None where the file does not give it."""
        if self.normal is None or self.position_mm is None:
            return None
        return math.fsum(n * p for n, p in zip(self.normal, self.position_mm, strict=True))

    @property
    def degrees_off_axial(self) -> float | None:
        """Angle of the normal to the body's long axis, 0-90, None where it is unknown."""
        return None if self.normal is None else math.degrees(math.acos(min(1, abs(self.normal[2]))))


@dataclass(frozen=True, eq=False)
class Decoded:
    """A decoded scan.

    Attributes:
        grey: uint8 0-255, shape (height, width) once upright, 0 is black.
        width, height: in pixels, as stored in the file.
        mode: Pillow's mode of the stored picture, or DICOM's photometric interpretation.
        format: what the bytes are, whatever the file's name: PNG, JPEG, BMP, TIFF, WEBP or DICOM.
        header: of a DICOM file; None for other formats.
    """

    grey: NDArray[np.uint8] = field(repr=False)
    width: int
    height: int
    mode: str
    format: str
    header: DicomHeader | None = None
