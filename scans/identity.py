"""Whose slice a file is, and where in its series, as its header says."""

from __future__ import annotations

from dataclasses import dataclass

from model.decoding.decoded import DicomHeader
from scans.patients import PatientHasher


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose slice it is, and where in its series; None or '' where the file does not say.

    Attributes:
        patient: keyed hash of issuer and Patient ID, see `scans.patients`.
        patient_of_id: keyed hash of the Patient ID alone, which a table of labels names.
        study, series: their UIDs.
        position_mm: of the slice along its normal, from the origin of the patient's coordinates.
        normal: unit vector across the slice, in the patient's coordinates.
        thickness_mm, kernel, manufacturer: see `model.decoding.decoded.DicomHeader`.
    """

    patient: str | None = None
    patient_of_id: str | None = None
    study: str | None = None
    series: str | None = None
    position_mm: float | None = None
    normal: tuple[float, float, float] | None = None
    thickness_mm: float | None = None
    kernel: str = ""
    manufacturer: str = ""


UNKNOWN = Identity()


def identity_of(header: DicomHeader, hash_patient: PatientHasher) -> Identity:
    """Return what a header says of whose slice it is and where in its series."""
    position = header.position_along_normal_mm
    return Identity(
        patient=hash_patient(header.patient_id, header.patient_id_issuer),
        patient_of_id=hash_patient(header.patient_id),
        study=header.study_uid or None,
        series=header.series_uid or None,
        position_mm=None if position is None else round(position, 3),
        normal=header.normal,
        thickness_mm=header.slice_thickness_mm,
        kernel=header.kernel,
        manufacturer=header.manufacturer,
    )
